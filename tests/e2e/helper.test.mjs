// The helper of clients/js against the real thing: it finds rooms and nodes, and finds them again.
import assert from 'node:assert/strict';
import { once } from 'node:events';

import { Follower, endpointOf, roomOf } from '../../clients/js/dist/index.js';
import { chat, config, whiteboard } from './configs.mjs';
import { isAlive, test, until, withGreenroom } from './harness.mjs';

const QUICK = { reconnectionDelay: 100, reconnectionDelayMax: 500, timeout: 1_000 };

function follower(t, discover, options = {}) {
  const made = new Follower(discover, { ...QUICK, ...options });
  t.after(() => made.close());
  return made;
}

const serverAt = async (greenroom, url) => {
  const { gameservers } = await greenroom.get('/v1/gameservers');
  const { name } = gameservers.find(({ endpoint }) => url.endsWith(endpoint));
  return greenroom.get(`/v1/gameservers/${name}`);
};

test('two players meet in the room of a key, and meet again after its server was killed', async (t) => {
  const greenroom = await withGreenroom(t, config([chat({ min: 2 })]));
  const [ann, bob] = ['ann', 'bob'].map((name) => follower(t, roomOf(greenroom.url, 'chat', 'guild:42', name), { auth: { name } }));
  await Promise.all([once(ann.socket, 'connect'), once(bob.socket, 'connect')]);
  const before = ann.address;
  assert.equal(before.url, bob.address.url);
  process.kill((await serverAt(greenroom, before.url)).pid, 'SIGKILL');
  await Promise.all([once(ann.socket, 'disconnect'), once(bob.socket, 'disconnect')]);
  // Its room is lost with it; the key gives them both the same new one.
  await until('both are back', () => ann.socket.connected && bob.socket.connected, 90_000);
  assert.notEqual(ann.address.token, before.token);
  const heard = once(bob.socket, 'line');
  ann.socket.emit('say', 'still here');
  assert.deepEqual(await heard, [{ from: 'ann', text: 'still here' }]);
});

test('a node that does not answer any more is left for another one of its fleet, with the session', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(2, { recovery: '2m' })]));
  const led = follower(t, endpointOf(greenroom.url, 'whiteboard'));
  await once(led.socket, 'connect');
  const { id } = led.socket;
  const frozen = await serverAt(greenroom, led.address.url);
  process.kill(frozen.pid, 'SIGSTOP');
  try {
    const left = once(led.socket, 'disconnect'); // before the close, which may say so at once
    led.socket.io.engine.close(); // as a network cut would
    await left;
    await until('it is on another node', () => led.socket.connected && !led.address.url.endsWith(frozen.endpoint), 30_000);
    await until('the server said how it went', () => led.recovery);
    assert.deepEqual([led.recovery, led.socket.id], [{ recovered: true }, id], 'its session came along');
  } finally {
    if (isAlive(frozen.pid)) process.kill(frozen.pid, 'SIGKILL'); // a frozen one would hold up the end of the test
  }
});

test('a node that is told to end leads its clients away first, with their sessions', async (t) => {
  const greenroom = await withGreenroom(t, config([whiteboard(2, { recovery: '2m' })]));
  const led = Array.from({ length: 8 }, () => follower(t, endpointOf(greenroom.url, 'whiteboard')));
  await until('all are connected', () => led.every(({ socket }) => socket.connected));
  const ids = led.map(({ socket }) => socket.id);
  const ending = await serverAt(greenroom, led[0].address.url);
  const leaving = led.filter(({ address }) => address.url.endsWith(ending.endpoint));
  assert.ok(leaving.length > 1 && leaving.length < led.length, `${leaving.length} of 8 are there`);
  const moves = [], lost = [];
  for (const each of led) {
    each.socket.on('greenroom:move', (to) => moves.push([each, to]));
    each.socket.on('disconnect', (reason) => lost.push([each, reason]));
    each.recovery = undefined;
  }
  process.kill(ending.pid, 'SIGTERM');
  await until('all who were there have come back', () => leaving.every(({ socket, recovery }) => socket.connected && recovery), 30_000);
  assert.deepEqual(new Set(moves.map(([each]) => each)), new Set(leaving), 'each of them was told, and nobody else');
  assert.equal(new Set(moves.map(([, to]) => to.delay_ms)).size, leaving.length, 'spread over the time');
  assert.deepEqual(lost.filter(([, reason]) => reason !== 'forced close' && reason !== 'transport close'), []);
  assert.deepEqual(new Set(lost.map(([each]) => each)), new Set(leaving));
  assert.deepEqual(leaving.map(({ recovery }) => recovery), leaving.map(() => ({ recovered: true })));
  assert.deepEqual(led.map(({ socket }) => socket.id), ids, 'the sessions came along');
});
