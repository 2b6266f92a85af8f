// The kernel client of JupyterLab itself, @jupyterlab/services, unmodified, against a server.
//
//   NBOS_URL=http://... NBOS_TOKEN=... NBOS_FRAMING=v1|legacy node services/client.mjs
//
// For the legacy framing its WebSocket is one that offers no subprotocol, as old clients do.
import assert from 'node:assert/strict';
import services from '@jupyterlab/services';
import WebSocket from 'ws';
import { main, test } from './tap.mjs';

const { KernelManager, KernelSpecManager, ServerConnection, SessionManager } = services;
const { NBOS_URL, NBOS_TOKEN, NBOS_FRAMING = 'v1' } = process.env;
const LIMIT_MS = 60_000;

const sockets = [];
class RememberedSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, NBOS_FRAMING === 'legacy' ? [] : protocols);
    sockets.push(this);
  }
}

const serverSettings = ServerConnection.makeSettings({
  baseUrl: NBOS_URL,
  wsUrl: NBOS_URL.replace(/^http/, 'ws'),
  token: NBOS_TOKEN,
  appendToken: true,
  WebSocket: RememberedSocket
});

let kernels;
let kernel;

function within(promise, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

// Runs a cell; { reply, outputs, text, statuses }.
async function run(code, { onInput, options = {} } = {}) {
  const future = kernel.requestExecute({ code, allow_stdin: Boolean(onInput), ...options });
  const outputs = [];
  const statuses = [];
  future.onIOPub = message => {
    if (message.header.msg_type === 'status') {
      statuses.push(message.content.execution_state);
    } else if (message.header.msg_type !== 'execute_input') {
      outputs.push(message);
    }
  };
  future.onStdin = message => {
    if (message.header.msg_type === 'input_request') {
      future.sendInputReply({ value: onInput(message.content.prompt), status: 'ok' },
                            message.header);
    }
  };
  const reply = await within(future.done, code);
  const text = outputs.map(m => m.content.text ?? m.content.data?.['text/plain'] ?? '').join('');
  return { reply: reply.content, outputs, statuses, text };
}

function connected() {
  return within(new Promise(resolve => {
    if (kernel.connectionStatus === 'connected') {
      resolve();
      return;
    }
    kernel.connectionStatusChanged.connect(function seen(_, status) {
      if (status === 'connected') {
        kernel.connectionStatusChanged.disconnect(seen);
        resolve();
      }
    });
  }), 'the connection');
}

async function before() {
  kernels = new KernelManager({ serverSettings });
  await within(kernels.ready, 'the kernel manager');
  kernel = await within(kernels.startNew(), 'a new kernel');
  await within(kernel.info, 'kernel_info');
}

async function after() {
  await kernel?.shutdown().catch(() => {});
  kernels?.dispose();
}

test('specs', async () => {
  const specs = new KernelSpecManager({ serverSettings });
  await within(specs.ready, 'the kernel specs');
  const spec = specs.specs.kernelspecs[specs.specs.default];
  assert.equal(spec.language, 'python');
  assert.ok(spec.display_name.length > 0);
  specs.dispose();
});

test('framing', async () => {
  const expected = NBOS_FRAMING === 'legacy' ? '' : 'v1.kernel.websocket.jupyter.org';
  assert.equal(sockets.at(-1).protocol, expected);
});

test('execute', async () => {
  const { reply, statuses, text } = await run("x = 40\nprint('hello')\nx + 2");
  assert.equal(reply.status, 'ok');
  assert.equal(text, 'hello\n42');
  assert.deepEqual(statuses, ['busy', 'idle']);
});

test('error', async () => {
  const { reply, outputs } = await run('1 / 0');
  assert.equal(reply.ename, 'ZeroDivisionError');
  assert.equal(outputs[0].content.ename, 'ZeroDivisionError');
});

test('complete', async () => {
  await run('alphabet = 1');
  const reply = await within(kernel.requestComplete({ code: 'alpha', cursor_pos: 5 }), 'completion');
  assert.ok(reply.content.matches.includes('alphabet'));
});

test('input', async () => {
  const { text } = await run("print(input('name? ').upper())",
                             { onInput: prompt => (prompt === 'name? ' ? 'ada' : 'wrong prompt') });
  assert.equal(text, 'ADA\n');
});

test('interrupt', async () => {
  const cell = run('reached = True\nimport time\ntime.sleep(120)');
  await within(new Promise(resolve => {
    const seen = (_, status) => {
      if (status === 'busy') {
        kernel.statusChanged.disconnect(seen);
        resolve();
      }
    };
    kernel.statusChanged.connect(seen);
    if (kernel.status === 'busy') {
      seen(null, 'busy');
    }
  }), 'busy');
  await new Promise(resolve => setTimeout(resolve, 500));
  await within(kernel.interrupt(), 'the interrupt');
  const { reply } = await cell;
  assert.equal(reply.ename, 'KeyboardInterrupt');
  assert.equal((await run('reached')).text, 'True');
});

test('display updates and comms with buffers', async () => {
  const opened = new Promise(resolve => {
    kernel.registerCommTarget('echo', (comm, message) => {
      comm.onMsg = () => {};
      resolve(message);
    });
  });
  const { outputs } = await run(
    "from IPython.display import display\nh = display('one', display_id=True)\nh.update('two')\n" +
    "from comm import create_comm\n" +
    "c = create_comm(target_name='echo', data={'n': 1}, buffers=[b'\\x00\\xff\\x80'])");
  // A comm lives in one process only; a replicated kernel says so on stderr.
  const shown = outputs.map(m => m.header.msg_type).filter(type => type.includes('display'));
  assert.deepEqual(shown, ['display_data', 'update_display_data']);
  const message = await within(opened, 'comm_open');
  assert.equal(message.content.data.n, 1);
  assert.deepEqual([...new Uint8Array(message.buffers[0].buffer ?? message.buffers[0])].slice(-3),
                   [0, 255, 128]);
  kernel.removeCommTarget('echo', () => {});
});

test('reconnect after the connection is lost', async () => {
  await run('kept = [1, 2, 3]');
  const before = sockets.length;
  const lost = within(new Promise(resolve => {
    const seen = (_, status) => {
      if (status !== 'connected') {
        kernel.connectionStatusChanged.disconnect(seen);
        resolve();
      }
    };
    kernel.connectionStatusChanged.connect(seen);
  }), 'the loss to be noticed');
  sockets.at(-1).terminate();
  await lost;
  await connected();
  assert.ok(sockets.length > before);
  assert.equal((await run('kept')).text, '[1, 2, 3]');
});

test('restart', async () => {
  await within(kernel.restart(), 'the restart');
  await connected();
  const { reply, text } = await run("'kept' in globals()");
  assert.equal(text, 'False');
  assert.equal(reply.execution_count, 1);
});

test('sessions', async () => {
  const sessions = new SessionManager({ kernelManager: kernels, serverSettings });
  await within(sessions.ready, 'the session manager');
  const session = await within(sessions.startNew({
    path: `services-${NBOS_FRAMING}.ipynb`, name: 'services', type: 'notebook',
    kernel: { name: kernel.name }
  }), 'a session');
  const reply = await within(
    session.kernel.requestExecute({ code: 'pass' }).done, 'a cell of the session');
  assert.equal(reply.content.status, 'ok');
  await within(session.setPath('renamed.ipynb'), 'the new path');
  assert.equal(session.path, 'renamed.ipynb');
  const id = session.id;
  await within(session.shutdown(), 'the end of the session');
  await sessions.refreshRunning();
  assert.ok(![...sessions.running()].some(model => model.id === id));
  sessions.dispose();
});

test('several kernels side by side', async () => {
  const others = await within(
    Promise.all([kernels.startNew(), kernels.startNew()]), 'two kernels');
  const replies = await within(Promise.all(others.map((other, index) =>
    other.requestExecute({ code: `mine = ${index}` }).done)), 'their cells');
  assert.deepEqual(replies.map(reply => reply.content.execution_count), [1, 1]);
  await kernels.refreshRunning();
  const running = [...kernels.running()].map(model => model.id);
  for (const other of others) {
    assert.ok(running.includes(other.id));
    await within(other.shutdown(), 'the shutdown');
  }
  assert.equal((await run("'mine' in globals()")).text, 'False');
});

await main({ before, after });
