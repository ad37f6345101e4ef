// A server that has done enough is replaced between two rooms, never under one (S0-7).
import assert from 'node:assert/strict';

import { arena, config } from './configs.mjs';
import { isAlive, pause, test, until, withGreenroom } from './harness.mjs';
import { connect } from './players.mjs';

const worn = (fleet) => `${fleet}
[fleets.arena.recycle]
rooms = 1
`;

test('a worn server is replaced after its room has ended and never during it', async (t) => {
  const fleet = worn(arena({ min: 1, max: 3, rooms: 4, seconds: 600 }));
  const greenroom = await withGreenroom(t, config([fleet]));
  const servers = async () => (await greenroom.get('/v1/gameservers')).gameservers;
  const server = async (name) => (await servers()).find((one) => one.name === name);

  const room = await greenroom.allocate('arena', { players: ['ann'] });
  const { pid } = await server(room.server);
  const lost = [];
  const ann = await connect(room.url, { transports: ['websocket'], auth: { token: room.seats[0].token } });
  t.after(() => ann.disconnect());
  ann.on('disconnect', (reason) => lost.push(reason));

  await until('its replacement is there and it gets nothing new', async () => {
    const { state, message } = await server(room.server);
    return state === 'draining' && /worn out: 1 rooms served, 1 allowed/.test(message);
  });
  const other = await greenroom.allocate('arena', { players: ['bob'] });
  assert.notEqual(other.server, room.server, 'three places are free on it, and nobody is sent there');
  // Longer than an empty one is given: 3 s.
  await pause(6_000);
  assert.deepEqual(lost, [], 'who plays was never disconnected');
  assert.equal((await server(room.server)).pid, pid, 'the process is the same');
  assert.ok(isAlive(pid));

  ann.disconnect();
  await until('it is gone with its room', async () => !(await server(room.server)), 40_000);
  await until('its process too', () => !isAlive(pid));
  const { entries } = await greenroom.get('/v1/audit');
  const told = entries.find(({ action, subject }) => action === 'server_stopped' && subject === room.server);
  assert.deepEqual([told.busy, told.reason], [false, 'worn out: 1 rooms served, 1 allowed']);
});
