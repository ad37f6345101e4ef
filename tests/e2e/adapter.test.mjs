// One cluster of two Node.js servers with the official `@socket.io/redis-streams-adapter` and two nodes, over a real Redis: every
// operation in each direction, as a team sees it that moves server by server.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, describe } from 'node:test';

import { createClient } from 'redis';
import { io } from 'socket.io-client';

import { next, startEcho } from './echo.mjs';
import { test, until } from './harness.mjs';
import { Redis } from './redis.mjs';

/** A Node.js server: `call(what, where, arg)` has it do something. */
class Server {
  static async start(url, options = {}) {
    const self = new Server();
    self.child = fork(new URL('./cluster-server.mjs', import.meta.url), [url, JSON.stringify(options)]);
    self.calls = new Map();
    const [{ port }] = await once(self.child, 'message');
    self.address = `127.0.0.1:${port}`;
    self.child.on('message', ({ id, result, error }) => {
      const { resolve, reject } = self.calls.get(id);
      self.calls.delete(id);
      if (error) reject(new Error(error));
      else resolve(result);
    });
    return self;
  }

  call(what, where = {}, arg = undefined) {
    const id = this.calls.size ? Math.max(...this.calls.keys()) + 1 : 1;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.child.send({ id, what, where, arg });
    });
  }

  async stop(signal = 'SIGTERM') {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill(signal);
    await once(this.child, 'exit');
  }
}

const readiness = (address) => new Promise((resolve, reject) => {
  http.get(`http://${address}/readyz`, (answer) => {
    answer.resume();
    answer.on('end', () => resolve(answer.statusCode));
  }).on('error', reject);
});

/** A cluster with the options that the npm package and the nodes have under other names, in `env`. */
async function startCluster(redis, options, env) {
  const self = { nodes: [], servers: [], sockets: [] };
  const startNode = () => startEcho(['json'], { GREENROOM_REDIS: redis.url, GREENROOM_ADAPTER: 'redis-streams', ...env });
  self.addNode = async () => {
    const node = await startNode();
    self.nodes.push(node);
    return node;
  };
  self.addServer = async () => {
    const server = await Server.start(redis.url, options);
    self.servers.push(server);
    return server;
  };
  /** Waits until every server counts so many. */
  self.counted = (count, nsp = '/') => until(`${count} servers count each other`, async () => {
    const counts = await Promise.all(self.servers.map((server) => server.call('count', { nsp })));
    return counts.every((each) => each === count);
  });
  self.stop = async () => {
    self.sockets.forEach((socket) => socket.disconnect());
    await Promise.all([...self.nodes, ...self.servers].map((each) => each.stop()));
  };
  /** A client of one of them that writes down all that it hears, and answers `question` with a number. */
  self.connect = async (where, path = '/', answer = 0, more = {}) => {
    const socket = io(`http://${where.address}${path}`, { forceNew: true, reconnection: false, transports: ['websocket'], ...more });
    socket.heard = [];
    self.sockets.push(socket);
    await Promise.all([next(socket, 'connect'), next(socket, 'welcome')]);
    socket.onAny((...args) => socket.heard.push(args.filter((arg) => typeof arg !== 'function')));
    if (answer) socket.on('question', (_, ack) => ack(answer));
    return socket;
  };
  /** One client of each: those of the nodes first. They answer 1, 10, 100, 1000. */
  self.connectAll = (path) => Promise.all([...self.nodes, ...self.servers].map((each, i) => self.connect(each, path, 10 ** i)));
  await Promise.all([self.addNode(), self.addNode(), self.addServer(), self.addServer()]);
  await self.counted(4);
  return self;
}

/** Has all of the cluster settle: an event by the way of all others, last. Gives what each heard before. */
async function settled(those, send) {
  const last = those.map((socket) => next(socket, 'last'));
  await send();
  await Promise.all(last);
  return those.map((socket) => socket.heard.splice(0).filter(([name]) => name !== 'last' && name !== 'question'));
}
const forget = (those) => those.forEach((socket) => socket.heard.splice(0));
const DEADLINE = 30_000;
const ask = (socket, ...args) => socket.timeout(DEADLINE).emitWithAck(...args);
const sum = (numbers) => numbers.reduce((all, each) => all + each, 0);

for (const [title, options, env, path] of [
  ['with the defaults', {}, {}, '/'],
  ['with names of its own and several streams', { streamName: 'game', streamCount: 4, channelPrefix: 'game-channel', maxLen: 200 }, {
    GREENROOM_ADAPTER_STREAM_NAME: 'game',
    GREENROOM_ADAPTER_STREAM_COUNT: '4',
    GREENROOM_ADAPTER_CHANNEL_PREFIX: 'game-channel',
    GREENROOM_ADAPTER_MAX_LEN: '200',
  }, '/room-a'],
]) {
  describe(`one cluster of nodes and Node.js servers ${title}`, () => {
    let redis;
    let cluster;
    let those;
    const at = (more = {}) => ({ nsp: path, ...more });
    before(async () => {
      redis = await Redis.start();
      cluster = await startCluster(redis, options, env);
      those = await cluster.connectAll(path);
      await cluster.counted(4, path);
    });
    after(async () => {
      await cluster?.stop();
      await redis?.stop();
    });
    /** After all that the first Node.js server has sent. */
    const settleServer = () => settled(those, () => cluster.servers[0].call('emit', at(), ['last']));
    /** After all that the node of this client has sent too. */
    const settleNode = (by = those[0]) => settled(those, () => {
      by.emit('tell_all', null, 'settle');
      return Promise.all(those.map((socket) => until('the last word came', () =>
        socket.heard.some(([name, , word]) => name === 'told_all' && word === 'settle')))).then(() =>
        cluster.servers[0].call('emit', at(), ['last']));
    }).then((heard) => heard.map((each) => each.filter(([, , word]) => word !== 'settle')));

    test('a broadcast of a Node.js server reaches every client once, bytes included', async () => {
      await cluster.servers[0].call('emit', at(), ['all', 1, { deep: ['é', null, -1.5] }]);
      await cluster.servers[0].call('bytes', at(), [1, 2, 255]);
      for (const [all, bytes, ...more] of await settleServer()) {
        assert.deepEqual(all, ['all', 1, { deep: ['é', null, -1.5] }]);
        assert.deepEqual([bytes[0], [...bytes[1]], [...bytes[2].more]], ['bytes', [1, 2, 255], [1, 2, 255]]);
        assert.deepEqual(more, []);
      }
    });

    test('a broadcast of a node reaches every client once, bytes included', async () => {
      those[0].emit('tell_all', null, 1, { deep: ['é', null, -1.5] });
      those[0].emit('tell_all', null, Buffer.from([7, 0, 9]), { more: Buffer.from([8]) });
      for (const [all, bytes, ...more] of await settleNode()) {
        assert.deepEqual(all, ['told_all', null, 1, { deep: ['é', null, -1.5] }]);
        assert.deepEqual([[...bytes[2]], [...bytes[3].more]], [[7, 0, 9], [8]]);
        assert.deepEqual(more, []);
      }
    });

    // Only a WebSocket that has written all before it surely takes a volatile event: elsewhere it may be dropped.
    test('volatile events cross both ways', async () => {
      await cluster.servers[0].call('emit', at({ volatile: true }), ['now', 1]);
      await until('all heard it', () => those.every(({ heard }) => heard.length === 1));
      those[0].emit('tell_volatile', null, 'now');
      await until('all heard it', () => those.every(({ heard }) => heard.length === 2));
      assert.deepEqual(await settleNode(), those.map(() => [['now', 1], ['told_all', null, 'now']]));
    });

    test('groups are joined and left across the cluster both ways, and events reach those in them, less those left out', async () => {
      const [a, b, c, d] = those;
      // A Node.js server puts a client of a node and one of its kind into a group, a node does so with another.
      await cluster.servers[0].call('join', at({ to: [a.id, d.id] }), 'red');
      b.emit('join_all', c.id, 'red');
      a.emit('join_all', d.id, 'deaf');
      await until('all are in', async () => (await ask(a, 'fetch', 'red')).sockets.length === 3);
      await until('one is deaf', async () => (await ask(a, 'fetch', 'deaf')).sockets.length === 1);
      await cluster.servers[1].call('emit', at({ to: ['red'], except: [a.id] }), ['to', 'red']);
      b.emit('tell_hearing', 'red', 'from a node');
      let heard = await settleNode(b);
      const names = (each) => each.map(([name]) => name).sort();
      assert.deepEqual(heard.map(names), [['told_all'], [], ['to', 'told_all'], ['to']]);
      await cluster.servers[0].call('leave', at({ to: ['red'] }), 'deaf');
      b.emit('leave_all', a.id, 'red');
      await cluster.servers[1].call('leave', at({ to: [d.id] }), 'red');
      await until('two are out', async () => (await ask(b, 'fetch', 'red')).sockets.length === 1);
      await cluster.servers[1].call('emit', at({ to: ['red'] }), ['to', 'c alone']);
      heard = await settleNode();
      assert.deepEqual(heard, [[], [], [['to', 'c alone']], []]);
      b.emit('leave_all', null, 'red');
      await until('all are out', async () => (await ask(b, 'fetch', 'red')).sockets.length === 0);
      forget(those);
    });

    test('sockets are told of across the cluster, with their data, both ways', async () => {
      those.forEach((socket, i) => socket.emit('data', { n: i }));
      const ids = those.map(({ id }) => id).sort();
      const isTold = (sockets) => sockets.every(({ data }) => data.n !== undefined);
      let told;
      await until('a server is told of all', async () => {
        told = await cluster.servers[0].call('fetch', at());
        return isTold(told);
      });
      assert.deepEqual(told.map(({ id }) => id).sort(), ids);
      const a = told.find(({ id }) => id === those[0].id);
      assert.deepEqual([a.data, a.rooms, a.address, a.query.EIO], [{ n: 0 }, [a.id], '127.0.0.1', '4']);
      assert.ok(a.url.startsWith('/socket.io/?EIO=4') && Math.abs(Date.now() - a.issued) < 600_000, JSON.stringify(a));
      const { sockets, missing } = await ask(those[1], 'fetch', null);
      assert.deepEqual([sockets.map(({ id }) => id).sort(), missing], [ids, 0]);
      const d = sockets.find(({ id }) => id === those[3].id);
      assert.deepEqual([d.data, d.rooms], [{ n: 3 }, []]);
      assert.ok(d.url.startsWith('/socket.io/?EIO=4') && d.address.includes('127.0.0.1'), JSON.stringify(d));
      assert.deepEqual(await ask(those[1], 'fetch', 'nobody'), { sockets: [], missing: 0 });
      assert.deepEqual(await cluster.servers[1].call('fetch', at({ to: ['nobody'] })), []);
    });

    test('a server that asks all clients gets every answer, and does not wait beyond the last', async () => {
      const began = Date.now();
      const { answers, error } = await cluster.servers[0].call('ask', at({ timeout: 4_000 }), ['question', {}]);
      assert.deepEqual([sum(answers), answers.length, error], [1111, 4, undefined]);
      assert.ok(Date.now() - began < 3_000, 'it did not wait for its time to be over');
      const nobody = await cluster.servers[0].call('ask', at({ to: ['nobody'], timeout: 4_000 }), ['question', {}]);
      assert.deepEqual([nobody.answers, nobody.error], [[], undefined]);
    });

    test('a node that asks all clients gets every answer, and knows how many are silent', async () => {
      const everybody = 'asked';
      for (const socket of those) await ask(socket, 'join', everybody);
      const began = Date.now();
      assert.deepEqual(await ask(those[0], 'ask_group', everybody, 4_000), { sum: 1111, missing: [0, 0] });
      assert.ok(Date.now() - began < 3_000, 'it did not wait for its time to be over');
      assert.deepEqual(await ask(those[0], 'ask_group', 'nobody', 4_000), { sum: 0, missing: [0, 0] });
      const silent = await Promise.all([cluster.connect(cluster.nodes[1], path), cluster.connect(cluster.servers[1], path)]);
      for (const socket of silent) await ask(socket, 'join', everybody);
      assert.deepEqual(await ask(those[0], 'ask_group', everybody, 1_000), { sum: 1111, missing: [2, 0] });
      // The same seen from a Node.js server: what came is told with the error.
      const { answers, error } = await cluster.servers[0].call('ask', at({ to: [everybody], timeout: 1_000 }), ['question', {}]);
      assert.deepEqual([sum(answers), answers.length, error], [1111, 4, 'operation has timed out']);
      silent.forEach((socket) => socket.disconnect());
      forget(those);
    });

    test('servers tell and ask each other, both ways', async () => {
      forget(those);
      await cluster.servers[0].call('tellServers', at(), { n: 1 });
      const by = (socket) => until('it was told', () => socket.heard.some(([name]) => name === 'told'));
      // The nodes tell all of the main namespace, so here it is there that one listens.
      if (path === '/') {
        await Promise.all([by(those[0]), by(those[1]), by(those[3])]);
        assert.deepEqual(those[3].heard.filter(([name]) => name === 'told').at(-1), ['told', { by: 'server', value: { n: 1 } }]);
        assert.equal(typeof those[0].heard.find(([name]) => name === 'told')[1].by, 'string');
      } else {
        await by(those[3]);
      }
      forget(those);
      those[0].emit('tell_servers', { n: 2 });
      await Promise.all([by(those[2]), by(those[3])]);
      assert.deepEqual(those[2].heard.find(([name]) => name === 'told'), ['told', { by: 'server', value: { n: 2 } }]);
      const { answers, error } = await cluster.servers[0].call('askServers', at(), 'who');
      assert.equal(error, undefined);
      const sorted = answers.map((answer) => JSON.stringify(answer)).sort();
      assert.deepEqual(sorted, ['{"n":1,"node":true}', '{"n":1,"node":true}', '{"node":false,"n":1}']);
      assert.deepEqual(await ask(those[0], 'ask_servers', 'who'), {
        replies: [{ n: { n: 1 }, node: false }, { n: { n: 1 }, node: false }, { n: { n: 1 }, node: true }],
        missing: 0,
      });
      forget(those);
    });

    test('sockets are disconnected across the cluster, alone or with their connection', async () => {
      const [ofNode, ofServer, ofNode2, ofServer2] = await Promise.all([cluster.nodes[1], cluster.servers[1], cluster.nodes[1], cluster.servers[1]]
        .map((where) => cluster.connect(where, path)));
      const ends = [ofNode, ofServer, ofNode2, ofServer2].map((socket) => next(socket, 'disconnect'));
      const connections = [ofNode2, ofServer2].map((socket) => next(socket.io, 'close'));
      await cluster.servers[0].call('disconnect', at({ to: [ofNode.id] }), false);
      await cluster.servers[0].call('disconnect', at({ to: [ofNode2.id] }), true);
      those[0].emit('disconnect_all', ofServer.id, false);
      those[0].emit('disconnect_all', ofServer2.id, true);
      const reasons = (await Promise.all(ends)).map(([reason]) => reason);
      // A Node.js server says goodbye before it closes the connection.
      assert.deepEqual(reasons, ['io server disconnect', 'io server disconnect', 'transport close', 'io server disconnect']);
      await Promise.all(connections);
      forget(those);
    });
  });
}

describe('a cluster in trouble', () => {
  let redis;
  let cluster;
  let client;
  let those;
  before(async () => {
    redis = await Redis.start({ keeps: 'always' });
    cluster = await startCluster(redis, {}, {});
    client = createClient({ url: redis.url, socket: { reconnectStrategy: 20 } });
    client.on('error', () => {}); // it comes back by itself
    await client.connect();
    those = await cluster.connectAll();
  });
  after(async () => {
    client?.destroy();
    await cluster?.stop();
    await redis?.stop();
  });
  const settle = () => settled(those, () => cluster.servers[0].call('emit', {}, ['last']));

  test('a node of a namespace that nobody is in is not waited for, and counts again when somebody comes', async () => {
    // Nodes have this namespace by a rule: it lives while somebody is in it.
    const nsp = '/room-empty';
    await cluster.counted(2, nsp);
    const socket = await cluster.connect(cluster.nodes[0], nsp, 5);
    await cluster.counted(3, nsp);
    assert.deepEqual((await cluster.servers[0].call('ask', { nsp, timeout: 4_000 }, ['question', {}])).answers, [5]);
    socket.disconnect();
    await cluster.counted(2, nsp);
  });

  test('what a program outside of the servers adds to the stream is carried out, and what is no word harms nobody', async () => {
    // As `@socket.io/redis-streams-emitter` writes it.
    const add = (fields) => client.xAdd('socket.io', '*', fields);
    const opts = { rooms: [], except: [], flags: {} };
    const event = (...data) => JSON.stringify({ packet: { type: 2, data, nsp: '/' }, opts });
    for (const fields of [
      { uid: 'x', nsp: '/', type: '3', data: '{' },
      { uid: 'x', nsp: '/', type: '3', data: 'no base64!' },
      { uid: 'x', nsp: '/', type: '77', data: '{}' },
      { uid: '', nsp: '/', type: '3', data: event('x') },
      { other: '1' },
    ]) await add(fields);
    const servers = await Promise.all(cluster.servers.map((server) => server.call('uid')));
    const channels = String(await client.sendCommand(['PUBSUB', 'CHANNELS', 'socket.io#/#?*#'])).split(',')
      .filter((channel) => !servers.some((uid) => channel.includes(uid)));
    assert.equal(channels.length, 2, 'the nodes alone');
    for (const channel of channels) {
      for (const message of [Buffer.from([0x81]), 'text', Buffer.alloc(1_000_000, 0x91), Buffer.alloc(9_000_000, 0x91)]) {
        await client.publish(channel, message);
      }
    }
    await add({ uid: 'emitter', nsp: '/', type: '4', data: JSON.stringify({ opts, rooms: ['by emitter'] }) });
    await add({ uid: 'emitter', nsp: '/', type: '3', data: event('emitted', 1) });
    await add({ uid: 'emitter', nsp: '/', type: '9', data: JSON.stringify({ packet: ['told', 5] }) });
    const heard = await settle();
    for (const each of heard.slice(0, 2)) {
      assert.deepEqual(each.filter(([name]) => name === 'emitted'), [['emitted', 1]]);
      assert.deepEqual(each.filter(([name]) => name === 'told')[0], ['told', { by: 'emitter', value: 5 }]);
    }
    assert.equal((await ask(those[0], 'fetch', 'by emitter')).sockets.length, 4);
    forget(those);
  });

  test('a Redis that dies and comes back: nodes say so, and all go on, with what the stream kept meanwhile', async () => {
    await redis.kill();
    await until('the nodes say that they are not ready', async () =>
      (await Promise.all(cluster.nodes.map(({ address }) => readiness(address)))).every((status) => status === 503));
    // What a node says now reaches its own clients alone, and is not said later.
    those[0].emit('tell_all', null, 'alone');
    await until('its own clients heard it', () => those[0].heard.length === 1);
    await redis.begin();
    await until('the nodes are ready', async () =>
      (await Promise.all(cluster.nodes.map(({ address }) => readiness(address)))).every((status) => status === 200));
    await cluster.counted(4);
    forget(those);
    those[1].emit('tell_all', null, 'again');
    await until('all heard it', () => those.every((socket) => socket.heard.some(([, , word]) => word === 'again')));
    const heard = await settle();
    assert.deepEqual(heard, those.map(() => [['told_all', null, 'again']]));
    const { answers } = await cluster.servers[0].call('ask', { timeout: 4_000 }, ['question', {}]);
    assert.equal(sum(answers), 1111);
  });

  test('what was added to the stream while a node was cut off is read when it is back', async () => {
    forget(those);
    // The node alone is cut: its connections are closed, and it may not come back for a while.
    await client.sendCommand(['CONFIG', 'SET', 'maxclients', '1']);
    await client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
    await client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
    await until('the nodes say that they are not ready', async () =>
      (await Promise.all(cluster.nodes.map(({ address }) => readiness(address)))).every((status) => status === 503));
    const opts = { rooms: [], except: [], flags: {} };
    for (const n of [1, 2, 3]) {
      const data = JSON.stringify({ packet: { type: 2, data: ['kept', n] }, opts });
      await client.xAdd('socket.io', '*', { uid: 'emitter', nsp: '/', type: '3', data });
    }
    await client.sendCommand(['CONFIG', 'SET', 'maxclients', '1000']);
    await until('the nodes heard it in order', () => those.slice(0, 2).every((socket) =>
      JSON.stringify(socket.heard) === JSON.stringify([['kept', 1], ['kept', 2], ['kept', 3]])), 15_000);
    await cluster.counted(4);
    forget(those);
  });

  test('a server that dies is not waited for, whichever kind it is', async () => {
    const [a] = those;
    await cluster.servers[1].stop('SIGKILL');
    cluster.servers.pop();
    await until('it is not counted', async () => (await cluster.servers[0].call('count')) === 3);
    assert.deepEqual(await ask(a, 'ask_servers', 'who'), { replies: [{ n: { n: 1 }, node: false }, { n: { n: 1 }, node: true }], missing: 0 });
    await cluster.nodes[1].kill();
    cluster.nodes.pop();
    await until('it is not counted', async () => (await cluster.servers[0].call('count')) === 2);
    const began = Date.now();
    assert.deepEqual((await cluster.servers[0].call('ask', { timeout: 4_000 }, ['question', {}])).answers.sort(), [1, 100]);
    assert.equal((await cluster.servers[0].call('fetch')).length, 2);
    assert.ok(Date.now() - began < 3_000);
  });

  test('what does not go with a cluster is refused at the start, with what to do', async () => {
    const refused = async (env) => {
      const error = await startEcho(['json'], { GREENROOM_REDIS: redis.url, GREENROOM_ADAPTER: 'redis-streams', ...env }).then(
        (node) => node.stop().then(() => 'it started'), (failed) => failed.message);
      assert.equal(error, 'the server ended before it listened', JSON.stringify(env));
    };
    await refused({ GREENROOM_RECOVERY: '2m' });
    await refused({ GREENROOM_ADAPTER: 'redis' });
    await refused({ GREENROOM_REDIS: '' });
  });
});
