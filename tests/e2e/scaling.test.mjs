// A fleet grows by itself and shrinks by itself, and nobody who plays notices (S2-3, S2-18, S2-20, L-3).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { arena, config } from './configs.mjs';
import { BIN, test, until, withGreenroom } from './harness.mjs';
import { all, connect } from './players.mjs';

const quick = (fleet) => `${fleet}
[fleets.arena.autoscale]
cooldown_out = "0s"
cooldown_in = "3s"
settle_in = "1s"
`;

const cli = async (greenroom, ...words) => {
  const { stdout } = await promisify(execFile)(BIN, ['--server', greenroom.url, ...words]);
  return stdout;
};

test('a fleet wakes for a caller, grows with its players and gives up only servers that nobody is on', async (t) => {
  const greenroom = await withGreenroom(t, config([quick(arena({ min: 0, max: 4, rooms: 1, seconds: 600 }))]));
  const fleet = () => greenroom.get('/v1/fleets/arena');
  assert.equal((await fleet()).replicas, 0, 'nobody plays, nothing runs');

  const rooms = await all(3, 3, (i) => greenroom.allocate('arena', { players: [`p${i}`], timeout_ms: 30_000 }));
  assert.equal(new Set(rooms.map(({ server }) => server)).size, 3, 'one room on each server');
  const lost = [];
  const sockets = await all(3, 3, async (i) => {
    const socket = await connect(rooms[i].url, { transports: ['websocket'], auth: { token: rooms[i].seats[0].token } });
    t.after(() => socket.disconnect());
    socket.on('disconnect', (reason) => lost.push({ i, reason }));
    return socket;
  });
  assert.equal((await fleet()).ready, 3);

  sockets[0].disconnect();
  sockets[2].disconnect();
  await until('the two empty servers are gone', async () => (await fleet()).replicas === 1, 60_000);
  const { gameservers } = await greenroom.get('/v1/gameservers');
  const kept = gameservers.filter(({ state }) => state !== 'stopped').map(({ name }) => name);
  assert.deepEqual(kept, [rooms[1].server], 'the one with a player stays');
  assert.deepEqual(lost.filter(({ i }) => i === 1), [], 'who plays was never disconnected');
  assert.equal(sockets[1].connected, true);

  const { decisions, now } = await greenroom.get('/v1/fleets/arena/decisions');
  assert.equal(decisions.at(-1).replicas_before, 0);
  assert.equal(decisions[0].change, 'in');
  assert.ok(decisions.every(({ reason, inputs }) => reason.length > 0 && inputs.ready >= 0));
  assert.equal(now.replicas_wanted, 1);
  const told = await cli(greenroom, 'explain', 'fleet', 'arena');
  assert.match(told, /fleet arena: 0 to 4 gameservers; nothing ordered/);
  assert.match(told, /AGO +CHANGE +FROM +TO +REASON/);

  await cli(greenroom, 'scale', 'arena=3', '--for', '10m');
  await until('three are there for the order', async () => (await fleet()).ready === 3, 30_000);
  await cli(greenroom, 'scale', 'arena=0');
  await until('and go when it is taken back', async () => (await fleet()).replicas === 1, 30_000);
  assert.equal(sockets[1].connected, true);
});
