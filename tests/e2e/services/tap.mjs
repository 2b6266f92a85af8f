// A test runner of one screen: TAP on stdout, and the process ends although clients still have
// timers and sockets (node:test loses its report then).
import { writeSync } from 'node:fs';

const cases = [];

export function test(name, body) {
  cases.push({ name, body });
}

// Runs all cases in order between `before` and `after`, and ends the process.
export async function main({ before, after }) {
  let failed = 0;
  const report = (ok, name, error) => {
    failed += ok ? 0 : 1;
    const detail = ok ? '' : String(error?.stack ?? error).replace(/^/gm, '  # ') + '\n';
    writeSync(1, `${ok ? 'ok' : 'not ok'} - ${name}\n${detail}`);
  };
  writeSync(1, `TAP version 13\n1..${cases.length}\n`);
  try {
    await before();
    for (const { name, body } of cases) {
      await body().then(() => report(true, name), error => report(false, name, error));
    }
  } catch (error) {
    report(false, 'before', error);
  }
  await after();
  process.exit(failed ? 1 : 0);
}
