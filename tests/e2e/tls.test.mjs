// Game servers whose own port speaks TLS, under a real agent: its probe finds out, answers say `https`, and a new certificate
// is taken up while everybody stays.
import assert from 'node:assert/strict';

import { Authority, shown } from './authority.mjs';
import { config } from './configs.mjs';
import { test, until, withGreenroom } from './harness.mjs';
import { connect, refusal } from './players.mjs';

const fleet = (name, kind, authority) => `
[fleets.${name}]
kind = "${kind}"
command = ["greenroom", "example", "${name}"]
replicas_min = 1
replicas_max = 1
${kind === 'room' ? 'rooms_per_server = 10\nseats_per_room = 4' : ''}
[fleets.${name}.env]
GREENROOM_TLS_CERTIFICATES = "${authority.path('server.pem')}"
GREENROOM_TLS_KEY = "${authority.path('server.key')}"
`;

test('servers under TLS become ready, are answered as https, and change their certificate without dropping anybody', async (t) => {
  const authority = await Authority.make(t);
  const { ca } = authority;
  await authority.sign(1001);
  const parts = [fleet('relay', 'mesh', authority), fleet('chat', 'room', authority)];
  const greenroom = await withGreenroom(t, config(parts));
  const { endpoint, url } = await greenroom.get('/v1/fleets/relay/endpoint');
  assert.equal(url, `https://${endpoint}`);
  const secure = { ca, transports: ['websocket'] };
  const socket = await connect(url, secure);
  t.after(() => socket.disconnect());
  const ask = (value) => socket.timeout(30_000).emitWithAck('echo', value);
  assert.equal(await ask('by wss'), 'by wss');
  assert.equal(await shown(endpoint, ca), 1001);
  assert.match((await refusal(url, { transports: ['websocket'] })).message, /websocket error/, 'nobody else vouches for it');

  const room = await greenroom.allocate('chat', { key: 'guild:1', players: ['ann'] });
  assert.equal(room.url, `https://${room.endpoint}`);
  const ann = await connect(room.url, { ca, auth: { token: room.seats[0].token } });
  t.after(() => ann.disconnect());
  const again = await greenroom.allocate('chat', { key: 'guild:1', players: ['bob'] });
  assert.deepEqual([again.room, again.url], [room.room, room.url]);

  let ends = 0;
  for (const kept of [socket, ann]) kept.on('disconnect', () => (ends += 1));
  await authority.sign(1002);
  await until('new connections are shown the new certificate', async () => (await shown(endpoint, ca)) === 1002);
  const fresh = await connect(url, secure);
  t.after(() => fresh.disconnect());
  assert.equal(await fresh.timeout(30_000).emitWithAck('echo', 'new'), 'new');
  assert.equal(await ask('still here'), 'still here');
  assert.equal(ends, 0);
  const { fleets } = await greenroom.get('/v1/fleets');
  assert.deepEqual(fleets.map(({ ready }) => ready), [1, 1]);
});
