// A front as administrators set one up: pages and files from a Jupyter server, kernels and sessions
// straight from our gateway, under one address.
import http from 'node:http';
import net from 'node:net';

const OURS = /^\/(api\/(kernels|kernelspecs|sessions)|kernelspecs)(\/|\?|$)/;

function headersFor(request, target) {
  const headers = { ...request.headers };  // the host, too: servers compare it with the origin
  if (target.token) {
    headers.authorization = `token ${target.token}`;
  }
  return headers;
}

function pass(request, response, target) {
  const onward = http.request({
    host: target.hostname, port: target.port, method: request.method, path: request.url,
    headers: headersFor(request, target),
  }, (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    answer.pipe(response);
  });
  onward.on('error', (error) => response.writeHead(502).end(String(error)));
  request.pipe(onward);
}

function upgrade(request, socket, head, target) {
  const onward = net.connect(target.port, target.hostname, () => {
    const lines = Object.entries(headersFor(request, target)).map(([name, text]) => `${name}: ${text}`);
    onward.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
    onward.write(head);
    onward.pipe(socket).pipe(onward);
  });
  for (const [one, other] of [[socket, onward], [onward, socket]]) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
}

// `server` and `gateway`: URLs; `token`: the gateway's. Resolves to the front's origin, and a count of
// what went to the gateway.
export async function startFront(server, gateway, token) {
  const targets = [server, gateway].map((url) => {
    const { hostname, port } = new URL(url);
    return { hostname, port };
  });
  targets[1].token = token;
  const seen = { requests: 0, sockets: 0 };
  const choose = (request) => targets[OURS.test(request.url) ? 1 : 0];
  const front = http.createServer((request, response) => {
    seen.requests += OURS.test(request.url) ? 1 : 0;
    pass(request, response, choose(request));
  });
  front.on('upgrade', (request, socket, head) => {
    seen.sockets += OURS.test(request.url) ? 1 : 0;
    upgrade(request, socket, head, choose(request));
  });
  await new Promise((done) => { front.listen(0, '127.0.0.1', done); });
  return { origin: `http://127.0.0.1:${front.address().port}`, seen };
}
