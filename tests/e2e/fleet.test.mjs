// Fleets as their players and operators see them: ports, balance, readiness, a full room (S0-1, S0-13, S2-12, S2-19).
import assert from 'node:assert/strict';
import process from 'node:process';

import { arena, config, lobby, whiteboard } from './configs.mjs';
import { test, until, withGreenroom } from './harness.mjs';
import { all, connect } from './players.mjs';

test('fifty servers get fifty ports of the range, all of them reachable', async (t) => {
  const began = Date.now();
  const greenroom = await withGreenroom(t, config([whiteboard(50)]), { ports: 60 });
  t.diagnostic(`fifty servers ready after ${Date.now() - began} ms`);
  const { gameservers } = await greenroom.get('/v1/gameservers');
  assert.equal(gameservers.length, 50);
  const ports = gameservers.map(({ endpoint }) => Number(endpoint.split(':')[1]));
  assert.equal(new Set(ports).size, 50);
  for (const port of ports) assert.ok(port > greenroom.port && port <= greenroom.port + 60, `${port} is in the range`);
  const answers = await all(50, 10, (i) => fetch(`http://${gameservers[i].endpoint}/livez`));
  assert.deepEqual(answers.filter(({ status }) => status !== 200), []);
  assert.equal(new Set(gameservers.map(({ pid }) => pid)).size, 50);
});

test('a fleet with ports of its own takes those and no others', async (t) => {
  const greenroom = await withGreenroom(t, (ports) => {
    const [first, last] = ports.split('-').map(Number);
    const own = whiteboard(3).replace('kind', `ports = "${last - 3}-${last}"\nkind`);
    return config([lobby(1), own])(`${first}-${last - 4}`);
  });
  const { gameservers } = await greenroom.get('/v1/gameservers');
  const ports = gameservers.filter(({ fleet }) => fleet === 'whiteboard').map(({ endpoint }) => Number(endpoint.split(':')[1]));
  assert.equal(ports.length, 3);
  assert.ok(ports.every((port) => port >= greenroom.port + 37), `${ports} are of the last four`);
});

test('a burst of a thousand endpoint answers is spread within 5 %', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(10)]));
  const answers = await all(1_000, 100, () => greenroom.get('/v1/fleets/whiteboard/endpoint'));
  const counts = new Map();
  for (const { server } of answers) counts.set(server, (counts.get(server) ?? 0) + 1);
  assert.equal(counts.size, 10);
  for (const [server, count] of counts) assert.ok(count >= 95 && count <= 105, `${server} was answered ${count} times`);
});

test('a server that accepts but does not speak Engine.IO yet is not handed out', async (t) => {
  const script = new URL('./late-server.mjs', import.meta.url).pathname;
  const late = `
[fleets.late]
kind = "mesh"
command = ["${process.execPath}", "${script}"]
env = { ATTACH_AFTER_MS = "2500" }
replicas_min = 1
replicas_max = 1
`;
  const began = Date.now();
  const greenroom = await withGreenroom(t, config([late]));
  const readyAfterMs = Date.now() - began;
  assert.ok(readyAfterMs >= 2_500, `it was called ready ${readyAfterMs} ms after the start, before it could serve`);
  const { gameservers: [server] } = await greenroom.get('/v1/gameservers');
  assert.equal(server.state, 'ready');
  assert.equal(server.restarts, 0);
  const { url } = await greenroom.get('/v1/fleets/late/endpoint');
  (await connect(url)).disconnect();
});

test('twenty players in one room see the same ticks in the same order', async (t) => {
  const twenty = arena({ min: 1, max: 1, rooms: 1, seconds: 120 }).replace('seats_per_room = 4', 'seats_per_room = 20');
  const greenroom = await withGreenroom(t, config([lobby(1), twenty]));
  const room = await greenroom.allocate('arena', { players: Array.from({ length: 20 }, (_, i) => `p${i}`) });
  const seen = [];
  const sockets = await all(20, 20, async (i) => {
    const socket = await connect(room.url, { transports: ['websocket'], auth: { token: room.seats[i].token } });
    t.after(() => socket.disconnect());
    seen[i] = [];
    socket.on('state', (state) => seen[i].push({ at: performance.now(), text: JSON.stringify(state) }));
    return socket;
  });
  const WANTED = 150;
  await until('everybody has seen 150 ticks', () => {
    sockets.forEach((socket, i) => socket.emit('steer', { x: (i % 3) - 1, y: (i % 5) - 2 }));
    return seen.every((ticks) => ticks.length >= WANTED);
  }, 30_000);

  const first = seen.map((ticks) => ticks[0].text);
  const start = seen.findIndex((ticks) => first.every((text) => ticks.some((tick) => tick.text === text)));
  assert.ok(start >= 0, 'somebody was there from the first common tick on');
  const common = seen[start].map(({ text }) => text);
  for (const [i, ticks] of seen.entries()) {
    const from = common.indexOf(ticks[0].text);
    const length = Math.min(common.length - from, ticks.length);
    assert.deepEqual(ticks.slice(0, length).map(({ text }) => text), common.slice(from, from + length), `player ${i}`);
  }
  const gaps = seen[start].slice(1).map(({ at }, i) => Math.abs(at - seen[start][i].at - 1000 / 30)).sort((a, b) => a - b);
  t.diagnostic(`tick lateness at a client: p50 ${gaps[gaps.length >> 1].toFixed(1)} ms, p99 ${gaps[Math.floor(gaps.length * 0.99)].toFixed(1)} ms`);
});
