// The kernel client of JupyterLab itself, @jupyterlab/services, unmodified, against a server.
//
//   NBOS_URL=http://... NBOS_TOKEN=... NBOS_FRAMING=v1|legacy NBOS_FACE=bare|server|plain \
//       node services/client.mjs
//
// For the legacy framing its WebSocket is one that offers no subprotocol, as old clients do. The face
// says who answers: our gateway itself; a jupyter_server that has it as its gateway, with our connection
// class in it; or one with nothing of ours, which has the legacy framing only and loses buffers.
import assert from 'node:assert/strict';
import services from '@jupyterlab/services';
import WebSocket from 'ws';
import { main, test } from './tap.mjs';

const { KernelManager, KernelSpecManager, ServerConnection, SessionManager } = services;
const { NBOS_URL, NBOS_TOKEN, NBOS_FRAMING = 'v1', NBOS_FACE = 'bare' } = process.env;
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

function busy() {
  return within(new Promise(resolve => {
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
}

// Each as a list of bytes.
function buffersOf(message) {
  return (message.buffers ?? []).map(buffer => [...(buffer.buffer === undefined
    ? new Uint8Array(buffer)
    : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength))]);
}

function pause(ms) {
  return new Promise(resolve => setTimeout(resolve, ms));
}

// Cuts the connection as a closed laptop does.
async function lose() {
  const lost = within(new Promise(resolve => {
    const seen = (_, status) => {
      if (status !== 'connected') {
        kernel.connectionStatusChanged.disconnect(seen);
        resolve();
      }
    };
    kernel.connectionStatusChanged.connect(seen);
  }), 'the loss to be noticed');
  sockets.findLast(socket => socket.url.includes(kernel.id) && socket.readyState === WebSocket.OPEN)
    .terminate();
  await lost;
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
  const v1 = NBOS_FRAMING === 'v1' && NBOS_FACE !== 'plain';
  const expected = v1 ? 'v1.kernel.websocket.jupyter.org' : '';
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
  await busy();
  await pause(500);
  await within(kernel.interrupt(), 'the interrupt');
  const { reply } = await cell;
  assert.equal(reply.ename, 'KeyboardInterrupt');
  assert.equal((await run('reached')).text, 'True');
});

test('interrupt with a cell that waits behind the running one', async () => {
  const options = { stop_on_error: true };  // as a notebook asks for it
  const running = run('import time\ntime.sleep(120)', { options });
  await busy();
  const waiting = run('waited = True', { options });
  await pause(500);
  await within(kernel.interrupt(), 'the interrupt');
  assert.equal((await running).reply.ename, 'KeyboardInterrupt');
  assert.equal((await waiting).reply.status, 'aborted');
  assert.equal((await run("'waited' in globals()")).text, 'False');
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
  assert.deepEqual(buffersOf(message), NBOS_FACE === 'plain' ? [] : [[0, 255, 128]]);
  kernel.removeCommTarget('echo', () => {});
});

test('a comm of the client, with buffers both ways', async () => {
  await run(`
def opened(comm, message):
    comm.send({'first': list(message['buffers'][0])}, buffers=[b'\\xfe\\x00'])
    comm.on_msg(lambda said: comm.send({'sum': sum(sum(b) for b in said['buffers'])},
                                       buffers=[bytes(reversed(bytes(said['buffers'][0])))]))
get_ipython().kernel.comm_manager.register_target('ours', opened)`);
  const comm = kernel.createComm('ours');
  const got = [];
  let more;
  comm.onMsg = message => {
    got.push(message);
    more?.();
  };
  const hear = count => within(new Promise(resolve => {
    more = () => got.length >= count && resolve();
    more();
  }), `comm message ${count}`);
  comm.open({}, {}, [new Uint8Array([1, 2, 255]).buffer]);
  await hear(1);
  comm.send({}, {}, [new Uint8Array([0, 128, 255]).buffer, new Uint8Array([7]).buffer]);
  await hear(2);
  assert.deepEqual(got.map(message => message.content.data),
                   [{ first: [1, 2, 255] }, { sum: 390 }]);
  const expected = [[[254, 0]], [[255, 128, 0]]];
  assert.deepEqual(got.map(buffersOf), NBOS_FACE === 'plain' ? [[], []] : expected);
  await within(comm.close().done, 'the close of the comm');
});

test('two clients on one kernel', async () => {
  const other = kernels.connectTo({ model: { id: kernel.id, name: kernel.name } });
  await within(other.info, 'kernel_info of the second client');
  const seen = [];
  other.anyMessage.connect((_, { msg, direction }) => {
    if (direction === 'recv' && msg.parent_header?.session === kernel.clientId) {
      seen.push([msg.channel, msg.header.msg_type, msg.content.text ?? '']);
    }
  });
  const asked = [];
  other.anyMessage.connect((_, { msg, direction }) => {
    if (direction === 'recv' && msg.channel === 'stdin') {
      asked.push(msg);
    }
  });
  const { text } = await run("shared = input('who? ')\nprint(shared)", { onInput: () => 'first' });
  assert.equal(text, 'first\n');
  const reply = await within(other.requestExecute({ code: 'shared += "!"' }).done, 'its own cell');
  assert.equal(reply.content.status, 'ok');
  assert.equal((await run('shared')).text, "'first!'");
  // The second one sees what the first one's cells print, but neither its replies nor its prompts.
  assert.ok(seen.some(([, type, said]) => type === 'stream' && said === 'first\n'));
  assert.ok(seen.every(([channel]) => channel === 'iopub'));
  assert.deepEqual(asked, []);
  other.dispose();
});

test('reconnect after the connection is lost', async () => {
  await run('kept = [1, 2, 3]');
  const before = sockets.length;
  await lose();
  await connected();
  assert.ok(sockets.length > before);
  assert.equal((await run('kept')).text, '[1, 2, 3]');
});

test('outputs that were missed come after a reconnect, once', async () => {
  const cell = run('import time\nfor i in range(8):\n    print(i, flush=True)\n    time.sleep(0.5)\n"end"');
  await busy();
  await pause(1200);
  await lose();
  await connected();
  const { reply, text } = await cell;
  assert.equal(reply.status, 'ok');
  assert.equal(text, "0\n1\n2\n3\n4\n5\n6\n7\n'end'");
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
  // One after the other: this client takes a kernel for dead that a list does not have which was
  // written before the kernel was made and read after.
  const others = [await within(kernels.startNew(), 'a second kernel'),
                  await within(kernels.startNew(), 'a third kernel')];
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
