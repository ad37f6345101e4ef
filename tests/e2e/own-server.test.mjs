// A server in another language under Greenroom: allocated, kept while people are in it, its result delivered (S0-2, L-1).
import assert from 'node:assert/strict';
import process from 'node:process';

import { config } from './configs.mjs';
import { pause, test, until, withGreenroom } from './harness.mjs';
import { connect, next, refusal } from './players.mjs';
import { Webhook } from './webhook.mjs';

const server = new URL('./own-server.mjs', import.meta.url).pathname;
const fleet = `
[fleets.game]
kind = "room"
command = ["${process.execPath}", "${server}"]
rooms_per_server = 10
seats_per_room = 2
replicas_min = 1
replicas_max = 1
`;

test('the npm Socket.IO server with the documented recipes holds rooms like ours', async (t) => {
  const webhook = await Webhook.start(t);
  const greenroom = await withGreenroom(t, config([fleet], { webhook: webhook.url, reservation: '2s' }));
  const room = await greenroom.allocate('game', { key: 'party:1', players: ['ann', 'bob'] });
  const [ann, bob] = await Promise.all(room.seats.map(({ token }) => connect(room.url, { auth: { token } })));
  t.after(() => (ann.disconnect(), bob.disconnect()));
  assert.equal((await refusal(room.url, { auth: { token: room.seats[0].token } })).message, 'token_used');
  const said = next(bob, 'said');
  ann.emit('say', 'hello');
  assert.deepEqual(await said, { player: 'ann', text: 'hello' });

  const seats = async () => (await greenroom.get(`/v1/rooms/${room.room}`)).seats.map(({ state }) => state);
  await until('both seats are known as connected', async () => (await seats()).join() === 'connected,connected');
  await pause(Math.max(0, room.seats[0].expires_at_ms + 3_000 - Date.now()));
  assert.equal((await seats()).join(), 'connected,connected', 'the reservation ran out, the room did not');

  ann.emit('finish', { winner: 'ann' });
  await until('the result is stored', () => webhook.stored.size === 1);
  const [result] = webhook.stored.values();
  assert.deepEqual(result.result, { winner: 'ann' });
  assert.equal(result.key, 'party:1');
});
