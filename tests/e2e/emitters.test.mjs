// Programs outside of the servers, with the npm package `@socket.io/redis-emitter` and a real Redis: every node hears them and
// acts on its own sockets, so that each client is reached once.
import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';

import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { io } from 'socket.io-client';

import { next, startEcho } from './echo.mjs';
import { test, until } from './harness.mjs';
import { Redis } from './redis.mjs';

describe('emitters outside of the servers', () => {
  const nodes = [];
  const sockets = [];
  let redis;
  let client;
  let emitter;
  /** Waits until so many nodes listen. */
  const heard = (count) =>
    until(`${count} nodes listen`, async () => {
      const list = await client.sendCommand(['CLIENT', 'LIST', 'TYPE', 'pubsub']);
      return String(list).split(' psub=2 ').length - 1 === count;
    });
  before(async () => {
    redis = await Redis.start();
    client = createClient({ url: redis.url, socket: { reconnectStrategy: 20 } });
    client.on('error', () => {}); // it comes back by itself
    await client.connect();
    emitter = new Emitter(client);
    for (let i = 0; i < 2; i += 1) nodes.push(await startEcho(['json'], { GREENROOM_EMITTERS: redis.url }));
    await heard(2);
  });
  after(async () => {
    sockets.forEach((socket) => socket.disconnect());
    await Promise.all(nodes.map((node) => node.stop()));
    client.destroy();
    await redis.stop();
  });

  /** A client of one of the nodes that writes down all that it hears. */
  const connect = async (node, path = '/', options = {}) => {
    const socket = io(`http://${nodes[node].address}${path}`, { forceNew: true, reconnection: false, ...options });
    socket.heard = [];
    sockets.push(socket);
    await Promise.all([next(socket, 'connect'), next(socket, 'welcome')]);
    socket.onAny((...args) => socket.heard.push(args));
    return socket;
  };
  const two = (path, options) => Promise.all([0, 1].map((node) => connect(node, path, options)));
  /** Waits for an event after all others, then gives what each socket heard before it. */
  const settled = async (those, to = emitter) => {
    const last = those.map((socket) => next(socket, 'last'));
    to.emit('last');
    await Promise.all(last);
    return those.map((socket) => socket.heard.splice(0).slice(0, -1));
  };

  test('an event reaches every client once, whatever it carries', async () => {
    const those = await Promise.all([connect(0), connect(1), connect(0, '/', { transports: ['polling'] })]);
    const when = new Date(1_700_000_000_123);
    emitter.emit('all', 1, { deep: ['é', null, -1.5, 2 ** 40] }, when);
    emitter.compress(false).emit('bytes', Buffer.from([1, 2]), { more: new Uint8Array([3]) });
    for (const [all, bytes, ...more] of await settled(those)) {
      assert.deepEqual(all, ['all', 1, { deep: ['é', null, -1.5, 2 ** 40] }, when.toISOString()]);
      assert.deepEqual([bytes[0], [...bytes[1]], [...bytes[2].more]], ['bytes', [1, 2], [3]]);
      assert.deepEqual(more, []);
    }
  });

  test('rooms are joined and left, and events reach those in them, less those left out', async () => {
    const those = await two();
    const [ann, bob] = those;
    emitter.to(ann.id).socketsJoin(['red', 'mine']);
    emitter.to(bob.id).socketsJoin('red');
    emitter.to('red').emit('to', 'red');
    emitter.to(['red', 'mine']).emit('to', 'both');
    emitter.to('red').except('mine').emit('to', 'bob');
    emitter.except(bob.id).emit('to', 'ann');
    emitter.in('red').socketsLeave('mine');
    emitter.to('mine').emit('to', 'nobody');
    assert.deepEqual(await settled(those), [
      [['to', 'red'], ['to', 'both'], ['to', 'ann']],
      [['to', 'red'], ['to', 'both'], ['to', 'bob']],
    ]);
  });

  // Only a WebSocket that has written all before it surely takes a volatile event: elsewhere it may be dropped.
  test('a volatile event reaches those who can take it at once', async () => {
    const those = await two('/', { transports: ['websocket'] });
    await settled(those);
    emitter.volatile.emit('now', { n: 1 });
    emitter.to(those[0].id).volatile.emit('now', 'ann');
    assert.deepEqual(await settled(those), [[['now', { n: 1 }], ['now', 'ann']], [['now', { n: 1 }]]]);
  });

  test('namespaces are apart, those of a pattern too, and one that is not there harms nobody', async () => {
    const main = await two();
    const rooms = await two('/room-emitters');
    emitter.of('/room-emitters').emit('here', 1);
    emitter.of('/room-nobody').emit('here', 2);
    emitter.of('nowhere').socketsJoin('x');
    assert.deepEqual(await settled(rooms, emitter.of('room-emitters')), [[['here', 1]], [['here', 1]]]);
    assert.deepEqual(await settled(main), [[], []]);
  });

  test('sockets are disconnected, alone or with their connection', async () => {
    const [ann, bob] = await two();
    const ends = [ann, bob].map((socket) => next(socket, 'disconnect'));
    emitter.to(ann.id).disconnectSockets();
    emitter.to(bob.id).disconnectSockets(true);
    const [[first], [second]] = await Promise.all(ends);
    assert.equal(first, 'io server disconnect');
    assert.equal(second, 'transport close');
  });

  test('the servers themselves are told', async () => {
    const those = await two();
    emitter.serverSideEmit('told', { n: 1 });
    emitter.serverSideEmit('nobody listens to this');
    // Each server tells its own clients.
    const told = ['told', { by: 'emitter', value: { n: 1 } }];
    assert.deepEqual(await settled(those), [[told], [told]]);
  });

  test('other keys are not heard, and what is no message of an emitter harms nobody', async () => {
    const those = await two();
    new Emitter(client, { key: 'other' }).emit('other', 1);
    for (const message of ['', '{', '{}', 'null', '{"type":2}', '{"type":99,"opts":{}}', '{"uid":"server","type":2}']) {
      await client.publish('socket.io#/#', message);
      await client.publish('socket.io-request#/#', message);
      await client.publish('socket.io-request#', message);
    }
    await client.publish('socket.io#/#', Buffer.alloc(9_000_000, 0x91));
    assert.deepEqual(await settled(those), [[], []]);
  });

  test('a Redis that dies and comes back is heard again', async () => {
    const those = await two();
    await redis.restart();
    await heard(2);
    emitter.emit('again', 1);
    assert.deepEqual(await settled(those), [[['again', 1]], [['again', 1]]]);
  });

  test('an event of an emitter does not spoil the way back to a session', async (t) => {
    const node = await startEcho(['json'], { GREENROOM_EMITTERS: redis.url, GREENROOM_RECOVERY: '1m' });
    t.after(() => node.stop());
    await heard(3);
    nodes.push(node);
    const socket = await connect(2, '/', { reconnection: true, reconnectionDelay: 20 });
    emitter.emit('text', 'ends in a text');
    const [[[name, text]]] = await settled([socket]);
    assert.deepEqual([name, text], ['text', 'ends in a text']);
    const { id } = socket;
    const again = next(socket, 'disconnect').then(() => next(socket, 'connect'));
    socket.emit('hang_up');
    await again;
    assert.deepEqual([socket.id, socket.recovered], [id, true]);
  });
});
