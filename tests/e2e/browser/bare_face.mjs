// A person at a JupyterLab that speaks to our gateway itself: sessions and WebSockets in the v1 framing
// are ours, no jupyter_server is in between.
import { startFront } from './front.mjs';
import {
  LAB_URL, openLauncher, openNotebook, outputOf, reload, saveAs, say, startCell, tell, untilStatus,
} from './lab.mjs';

const { NBOS_GATEWAY_URL, NBOS_GATEWAY_TOKEN } = process.env;

await tell(async (page, { goOn, shot }) => {
  const front = await startFront(LAB_URL, NBOS_GATEWAY_URL, NBOS_GATEWAY_TOKEN);
  const { pathname, search } = new URL(LAB_URL);
  const card = await openLauncher(page, `${front.origin}${pathname}${search}`);
  say('launcher', { title: await card.innerText() });
  await openNotebook(page, card);
  await startCell(page, 'kept = 41\nkept + 1');
  say('first', { text: await outputOf(page, 1), ...front.seen });

  await goOn();
  await startCell(page, 'kept + 2');
  say('second', { text: await outputOf(page, 2) });

  await startCell(page, 'import pathlib, time\nwhile not pathlib.Path("go-on").exists(): time.sleep(.1)');
  await untilStatus(page, 'busy');
  await saveAs(page, 'kept.ipynb');
  const cells = await reload(page);
  await shot('bare-face');
  say('busy', { cells });
  await goOn();
  await untilStatus(page, 'idle');
  await startCell(page, 'kept + 3');
  say('idle', { text: await outputOf(page, 4) });
});
