// The helper against stock Socket.IO servers: what it asks, what it carries, where it goes.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';

import { Server } from 'socket.io';

import { Follower, endpointOf, roomOf } from '../dist/index.js';

const QUICK = { reconnectionDelay: 20, reconnectionDelayMax: 100, transports: ['websocket'] };

async function until(what, probe, ms = 10_000) {
  for (const deadline = Date.now() + ms; ;) {
    const last = await probe();
    if (last) return last;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** A stock server on `port`; keeps each handshake's `auth`. */
async function server(t, { port = 0, admit = () => {}, recovery = true } = {}) {
  const http = createServer();
  const io = new Server(http, recovery ? { connectionStateRecovery: {} } : {});
  const self = { io, auths: [], heard: [], sockets: () => [...io.of('/').sockets.values()] };
  io.use((socket, next) => {
    self.auths.push({ ...socket.handshake.auth });
    const refused = admit(socket);
    next(refused ? Object.assign(new Error(refused), { data: { code: refused } }) : undefined);
  });
  io.on('connection', (socket) => socket.on('say', (what) => self.heard.push(what)));
  http.listen(port, '127.0.0.1');
  await once(http, 'listening');
  self.port = http.address().port;
  self.url = `http://127.0.0.1:${self.port}`;
  // As a process that dies: no word to anybody.
  self.die = () => new Promise((done) => {
    for (const { conn } of self.sockets()) conn.close(true);
    io.engine.close();
    http.close(done);
    http.closeAllConnections();
  });
  t.after(() => self.die());
  return self;
}

/** An HTTP API that answers as `answer(request, body)` says: `[status, body]`. */
async function api(t, answer) {
  const http = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const [status, body] = answer(request, text && JSON.parse(text));
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.after(() => { http.close(); http.closeAllConnections(); });
  return `http://127.0.0.1:${http.address().port}`;
}

function follower(t, discover, options) {
  const made = new Follower(discover, { ...QUICK, ...options });
  t.after(() => made.close());
  return made;
}

test('a mesh fleet is asked for its endpoint, and the wish for reasons goes along', async (t) => {
  const node = await server(t);
  const asked = [];
  const url = await api(t, ({ method, url: path }) => (asked.push(`${method} ${path}`), [200, { url: node.url, server: 's' }]));
  const { socket } = follower(t, endpointOf(url, 'lob by'), { auth: { name: 'ann' } });
  await once(socket, 'connect');
  assert.deepEqual(asked, ['GET /v1/fleets/lob%20by/endpoint']);
  assert.deepEqual(node.auths, [{ name: 'ann', greenroom: { recovery: true, moves: true } }]);
});

test('a room is asked for by key, and the token of the right seat is shown', async (t) => {
  const node = await server(t);
  const asked = [];
  const url = await api(t, (request, body) => {
    asked.push([request.method, request.url, request.headers.authorization, body]);
    return [201, { url: node.url, seats: [{ player: 'bob', token: 'not mine' }, { player: 'ann', token: 'mine' }] }];
  });
  const { socket } = follower(t, roomOf(url, 'chat', 'guild:42', 'ann', { headers: { authorization: 'Bearer x' } }));
  await once(socket, 'connect');
  assert.deepEqual(asked, [['POST', '/v1/fleets/chat/rooms', 'Bearer x', { key: 'guild:42', players: ['ann'] }]]);
  assert.equal(node.auths[0].token, 'mine');
});

test('it asks until there is an answer, and tells each failure with its code', async (t) => {
  const node = await server(t);
  let asked = 0;
  const full = { error: { code: 'no_capacity', message: 'nothing is ready', retryable: true } };
  const url = await api(t, () => ((asked += 1) < 2 ? [503, full] : [200, { url: node.url }]));
  const told = [];
  const { socket } = follower(t, endpointOf(url, 'lobby'), { onAskError: (error) => told.push([error.code, error.message]) });
  await once(socket, 'connect');
  assert.deepEqual(told, [['no_capacity', 'nothing is ready']]);
});

test('a move keeps the Socket, its handlers, what was said meanwhile, and the session', async (t) => {
  const [from, to] = [await server(t), await server(t)];
  const { socket } = follower(t, async () => ({ url: from.url, token: 'one' }));
  const seen = [];
  let connects = 0;
  socket.on('connect', () => (connects += 1));
  socket.on('n', (n) => seen.push(n));
  await once(socket, 'connect');
  from.io.emit('n', 1);
  await until('the first event is there', () => seen.length === 1);
  const { _pid: pid, _lastOffset: offset } = socket;
  assert.ok(pid && offset);
  from.io.emit('greenroom:move', { endpoint: `127.0.0.1:${to.port}`, token: 'two', delay_ms: 30 });
  await once(socket, 'disconnect');
  socket.emit('say', 'in between');
  await once(socket, 'connect');
  to.io.emit('n', 2);
  await until('the second event, from the new server', () => seen.length === 2);
  assert.deepEqual([seen, connects, to.heard], [[1, 2], 2, ['in between']]);
  assert.equal(to.auths[0].token, 'two');
  assert.equal(to.auths[0].pid, pid);
  assert.equal(typeof to.auths[0].offset, 'string', 'the offset of the last event, here that of greenroom:move');
  assert.equal(from.sockets().length, 0);
});

test('a move without an address asks for one, while the connection stays', async (t) => {
  const from = await server(t), to = await server(t);
  const answers = [from.url, to.url];
  const { socket } = follower(t, async () => ({ url: answers.shift() }));
  await once(socket, 'connect');
  const left = once(socket, 'disconnect');
  from.io.emit('greenroom:move', { delay_ms: 50 });
  await left;
  assert.deepEqual(answers, [], 'it had asked before it left');
  await once(socket, 'connect');
  assert.equal(to.auths.length, 1);
});

test('a move is not taken before its delay, and the last word counts', async (t) => {
  const [from, wrong, to] = [await server(t), await server(t), await server(t)];
  const { socket } = follower(t, async () => ({ url: from.url }));
  await once(socket, 'connect');
  const told = Date.now();
  from.io.emit('greenroom:move', { endpoint: wrong.url, delay_ms: 50 });
  from.io.emit('greenroom:move', { endpoint: to.url, delay_ms: 200 });
  await once(socket, 'disconnect');
  assert.ok(Date.now() - told >= 195, `left after ${Date.now() - told} ms`);
  await once(socket, 'connect');
  assert.deepEqual([wrong.auths.length, to.auths.length], [0, 1]);
});

test('a server that is back on its own port is found without asking', async (t) => {
  const node = await server(t);
  let asked = 0;
  const { socket } = follower(t, async () => ((asked += 1), { url: node.url }), { reconnectionDelay: 300, randomizationFactor: 0 });
  await once(socket, 'connect');
  await node.die();
  const again = await server(t, { port: node.port });
  await once(socket, 'connect');
  assert.deepEqual([asked, again.auths.length], [1, 1]);
});

test('when nobody answers there it asks, and goes elsewhere with the same session', async (t) => {
  const [one, two] = [await server(t), await server(t)];
  const answers = [one.url, two.url];
  const { socket } = follower(t, async () => ({ url: answers.shift() ?? two.url }));
  await once(socket, 'connect');
  const pid = socket._pid;
  await one.die();
  await once(socket, 'connect');
  assert.equal(two.auths[0].pid, pid);
});

test('when the control plane is away too, the old address is tried on', async (t) => {
  const node = await server(t);
  let asked = 0;
  const { socket } = follower(t, async () => {
    if ((asked += 1) > 1) throw new Error('control is down');
    return { url: node.url };
  });
  await once(socket, 'connect');
  await node.die();
  await until('it has asked in vain', () => asked > 2);
  await server(t, { port: node.port });
  await once(socket, 'connect');
});

test('a question that nobody answers and that does not look at its signal is given up and asked again', async (t) => {
  const node = await server(t);
  const told = [];
  let asked = 0;
  const discover = () => ((asked += 1) === 1 ? new Promise(() => {}) : Promise.resolve({ url: node.url }));
  const { socket } = follower(t, discover, { askTimeout: 50, onAskError: (error) => told.push(error.name) });
  await once(socket, 'connect');
  assert.deepEqual([told, asked], [['TimeoutError'], 2]);
});

test('an expired token is mended by a fresh one; a refusal of the program is not asked about', async (t) => {
  const node = await server(t, { admit: ({ handshake: { auth } }) => ({ old: 'token_expired', banned: 'banned' })[auth.token] });
  const tokens = ['old', 'new'];
  const mended = follower(t, async () => ({ url: node.url, token: tokens.shift() }));
  await once(mended.socket, 'connect');
  assert.deepEqual(node.auths.map(({ token }) => token), ['old', 'new']);
  let asked = 0;
  const banned = follower(t, async () => ((asked += 1), { url: node.url, token: 'banned' }));
  const [error] = await once(banned.socket, 'connect_error');
  assert.equal(error.data.code, 'banned');
  await until('the stock client has given up', () => !banned.socket.active);
  assert.equal(asked, 1);
});

test('who was taken over does not take the seat back', async (t) => {
  const node = await server(t);
  let asked = 0;
  const { socket } = follower(t, async () => ((asked += 1), { url: node.url }));
  await once(socket, 'connect');
  node.io.emit('greenroom:taken_over', {});
  await once(socket, 'disconnect');
  assert.deepEqual([socket.active, asked], [false, 1]);
});

test('a cut connection is recovered on the same server, and the outcome is shown', async (t) => {
  const node = await server(t);
  const told = [];
  const led = follower(t, async () => ({ url: node.url }), { onRecovery: (recovery) => told.push(recovery) });
  await once(led.socket, 'connect');
  assert.deepEqual(led.recovery, { recovered: false });
  const id = led.socket.id;
  node.io.emit('n', 1);
  await once(led.socket, 'n');
  led.socket.io.engine.transport.ws.terminate();
  await once(led.socket, 'disconnect');
  await once(led.socket, 'connect');
  assert.deepEqual([led.recovery, led.socket.id], [{ recovered: true }, id]);
  node.io.emit('greenroom:recovery', { recovered: false, reason: 'window_over' });
  await until('the server told why', () => told.length === 1);
  assert.deepEqual([told, led.recovery], [[{ recovered: false, reason: 'window_over' }], { recovered: false, reason: 'window_over' }]);
});

test('after close nothing is asked or connected any more', async (t) => {
  const node = await server(t);
  let asked = 0;
  const led = follower(t, async () => {
    asked += 1;
    await new Promise((done) => setTimeout(done, 20));
    return { url: node.url };
  });
  led.close();
  led.close();
  await until('the question under way has ended', () => led.address);
  await new Promise((done) => setImmediate(done));
  assert.deepEqual([asked, led.socket.active, node.auths.length], [1, false, 0]);
});
