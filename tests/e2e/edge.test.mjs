// `greenroom edge`: stock clients of whole fleets through one address, without stickiness, while servers, edges and the
// control plane come and go (S2-10, S2-11, S1-3).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import process from 'node:process';
import { promisify } from 'node:util';

import { chat, config, whiteboard } from './configs.mjs';
import { Polling, startEdge } from './edge.mjs';
import { BIN, groupBy, test, until, withGreenroom } from './harness.mjs';
import { all, connect, next } from './players.mjs';

const server = new URL('./edge-server.mjs', import.meta.url).pathname;
const board = (min, max = min) => `
[fleets.board]
kind = "mesh"
command = ["${process.execPath}", "${server}"]
replicas_min = ${min}
replicas_max = ${max}
[fleets.board.autoscale]
cooldown_out = "0s"
cooldown_in = "1s"
settle_in = "1s"
`;

const transports = { polling: ['polling'], upgrade: ['polling', 'websocket'], websocket: ['websocket'] };

/** So many connected sockets of one way, which end with the test; `faults` gets whatever ends one or refuses it. */
async function crowd(t, url, way, count, faults) {
  return all(count, 8, async () => {
    const socket = await connect(url, { transports: transports[way] });
    t.after(() => socket.disconnect());
    socket.on('disconnect', (reason) => faults.push(`${way}: ${reason}`));
    socket.io.on('reconnect_attempt', () => faults.push(`${way}: again`));
    return socket;
  });
}

const who = (socket) => socket.timeout(30_000).emitWithAck('who');

async function echoes(sockets) {
  const said = await Promise.all(sockets.map((socket, i) => socket.timeout(30_000).emitWithAck('echo', i)));
  assert.deepEqual(said, sockets.map((_, i) => i));
}

test('polling, upgrading and websocket clients share one address of five npm servers, without stickiness', async (t) => {
  const greenroom = await withGreenroom(t, config([board(5)]));
  const edge = await startEdge(t, greenroom, ['--fleet', 'board']);
  const faults = [];
  const everybody = [];
  const count = async (sockets) =>
    [...groupBy(await Promise.all(sockets.map(who)), (name) => name).values()].map((there) => there.length);
  for (const way of Object.keys(transports)) {
    const sockets = await crowd(t, edge.url, way, 20, faults);
    everybody.push(...sockets);
    const wanted = way === 'polling' ? 'polling' : 'websocket';
    await until(`all are on ${wanted}`, () => sockets.every(({ io }) => io.engine.transport.name === wanted));
    await echoes(sockets);
    assert.equal((await count(sockets)).length, 5, 'they are spread over all servers');
  }
  // Only now: the last ones even out what was uneven while servers had not reported yet.
  const on = await count(everybody);
  assert.ok(Math.max(...on) - Math.min(...on) <= 2, `they are spread evenly: ${on}`);
  assert.deepEqual(faults, []);
});

test('the whiteboard draws across its servers behind the edge', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(5)]));
  const edge = await startEdge(t, greenroom, ['--fleet', 'whiteboard']);
  const faults = [];
  const sockets = (await all(3, 3, (i) => crowd(t, edge.url, Object.keys(transports)[i], 4, faults))).flat();
  const drawn = sockets.slice(1).map((socket) => next(socket, 'drawing'));
  sockets[0].emit('drawing', { x0: 0, y0: 0, x1: 0.5, y1: 1 });
  for (const { x1 } of await Promise.all(drawn)) assert.equal(x1, 0.5);
  assert.deepEqual(faults, []);
});

test('servers join and leave, and control is killed, while sockets pass: none is dropped', async (t) => {
  const greenroom = await withGreenroom(t, config([board(2, 6)]));
  const edge = await startEdge(t, greenroom, ['--fleet', 'board']);
  const scale = (n) => promisify(execFile)(BIN, ['--server', greenroom.url, 'scale', `board=${n}`]);
  const fleet = () => greenroom.get('/v1/fleets/board');
  const faults = [];
  const sockets = [];
  for (const way of Object.keys(transports)) sockets.push(...(await crowd(t, edge.url, way, 6, faults)));
  const kept = new Set(await Promise.all(sockets.map(who)));
  for (let round = 0; round < 2; round += 1) {
    await scale(6);
    await until('six are there', async () => (await fleet()).ready === 6, 30_000);
    await until('new sessions reach the new ones', async () => {
      const socket = await connect(edge.url, { transports: ['polling'] });
      const on = await who(socket);
      socket.disconnect();
      return !kept.has(on);
    });
    await echoes(sockets);
    await scale(0);
    await until('the four that nobody is on are gone', async () => (await fleet()).replicas === 2, 60_000);
    await echoes(sockets);
  }
  process.kill(await greenroom.controlPid(), 'SIGKILL');
  sockets.push(...(await crowd(t, edge.url, 'upgrade', 6, faults)));
  await echoes(sockets);
  await until('control answers again', async () => (await fleet()).ready === 2, 30_000);
  await echoes(sockets);
  assert.deepEqual(faults, []);
  const told = (word) => edge.output.split(`a server ${word}`).length - 1;
  await until(() => `eight have left:\n${edge.output}`, () => told('left') === 8);
  assert.equal(told('joined'), 8, edge.output);
});

test('a polling session goes on by two edges in turn, after a kill -9 of one, and after its restart', async (t) => {
  const greenroom = await withGreenroom(t, config([board(3)]));
  const first = await startEdge(t, greenroom, ['--fleet', 'board']);
  const second = await startEdge(t, greenroom, ['--fleet', 'board']);
  const sessions = await all(6, 3, () => Polling.open(first.url));
  const round = async (urls) => {
    for (const [i, session] of sessions.entries()) {
      await session.post(urls[i % urls.length], '421["who"]');
      await session.until(urls[(i + 1) % urls.length], '431["board-');
    }
  };
  await round([first.url, second.url]);
  await first.end('SIGKILL');
  await round([second.url]);
  const again = await startEdge(t, greenroom, ['--fleet', 'board'], { port: first.port });
  await round([again.url, second.url]);
});

test('a polling stock client does not notice that the edge is replaced on its port', async (t) => {
  const greenroom = await withGreenroom(t, config([board(2)]));
  const old = await startEdge(t, greenroom, ['--fleet', 'board', '--share-port', '--drain', '5s']);
  const faults = [];
  const sockets = await crowd(t, old.url, 'polling', 10, faults);
  await startEdge(t, greenroom, ['--fleet', 'board', '--share-port'], { port: old.port });
  assert.equal(await old.end(), 0);
  await echoes(sockets);
  assert.deepEqual(faults, []);
});

test('a room is reached through the edge by the name of its server', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(1), chat({ min: 3 })]));
  const edge = await startEdge(t, greenroom, ['--fleet', 'whiteboard', '--named-fleet', 'chat']);
  for (const [i, way] of Object.keys(transports).entries()) {
    const room = await greenroom.allocate('chat', { key: `guild:${i}`, players: ['ann', 'bob'] });
    const [ann, bob] = await Promise.all(room.seats.map(({ token }) =>
      connect(edge.url, { transports: transports[way], query: { server: room.server }, auth: { token } })));
    t.after(() => (ann.disconnect(), bob.disconnect()));
    const seats = async () => (await greenroom.get(`/v1/rooms/${room.room}`)).seats;
    await until('both sit there', async () => (await seats()).filter(({ state }) => state === 'connected').length === 2);
  }
});
