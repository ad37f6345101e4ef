// The stock socket.io-client against a node: each transport x each parser x each namespace, plain and under TLS, with
// everything that a program does with a socket.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';

import { io } from 'socket.io-client';
import msgpack from 'socket.io-msgpack-parser';

import { next, startEcho } from './echo.mjs';
import { test } from './harness.mjs';
import * as prefixed from './prefixed-parser.mjs';

const parsers = { json: undefined, msgpack, prefixed };
const transports = { upgrade: undefined, polling: ['polling'], websocket: ['websocket'] };
const namespaces = {
  'the main namespace': { path: '/' },
  'a namespace behind a middleware': { path: '/members', auth: { name: 'ann' } },
  'a namespace of a pattern': { path: '/room-7' },
};
const DEADLINE_MS = 30_000;

/** Starts a server and gives its URL and the certificate to trust. */
async function start(parser, folder) {
  const { address, stop } = await startEcho(folder ? [parser, folder] : [parser]);
  if (!folder) return { stop, url: `http://${address}` };
  const ca = await readFile(join(folder, 'cert.pem'));
  return { stop, url: `https://localhost:${address.split(':').at(-1)}`, ca };
}

const ports = [
  { parserName: 'json', isSecure: false },
  { parserName: 'msgpack', isSecure: false },
  { parserName: 'prefixed', isSecure: false },
  { parserName: 'json', isSecure: true },
];

for (const { parserName, isSecure } of ports) {
  const parser = parsers[parserName];
  describe(`parser ${parserName}${isSecure ? ' under TLS' : ''}`, () => {
    let url;
    let stop;
    let ca;
    let folder;
    const sockets = [];
    before(async () => {
      folder = isSecure ? await mkdtemp(join(tmpdir(), 'greenroom-tls-')) : undefined;
      ({ stop, url, ca } = await start(parserName, folder));
    });
    after(async () => {
      sockets.forEach((socket) => socket.disconnect());
      await stop();
      if (folder) await rm(folder, { recursive: true });
    });
    const open = (path, options) => {
      const socket = io(url + path, { forceNew: true, reconnection: false, parser, ca, ...options });
      sockets.push(socket);
      return socket;
    };
    const connected = async (path, options) => {
      const socket = open(path, options);
      await next(socket, 'connect');
      return socket;
    };

    for (const [transport, list] of Object.entries(transports)) {
      const way = list ? { transports: list } : {};
      for (const [name, { path, auth }] of Object.entries(namespaces)) {
        describe(`${transport}, ${name}`, () => matrix((more) => connected(path, { ...way, auth, ...more })));
      }

      test(`${transport}: namespaces share one connection and end on their own`, async () => {
        const main = await connected('/', way);
        const [room, members] = ['/room-a', '/members'].map((path) => main.io.socket(path, { auth: { name: 'x' } }));
        await Promise.all([room, members].map((socket) => socket.connected || next(socket, 'connect')));
        assert.equal(new Set([main, room, members].map(({ id }) => id)).size, 3);
        const left = next(room, 'disconnect');
        room.emit('kick');
        assert.equal((await left)[0], 'io server disconnect');
        assert.equal(await members.timeout(DEADLINE_MS).emitWithAck('echo', 1), 1);
        assert.equal(await main.timeout(DEADLINE_MS).emitWithAck('echo', 2), 2);
        room.connect();
        await next(room, 'connect');
      });

      test(`${transport}: a refusal carries its message and data, at once or later`, async () => {
        const [error] = await next(open('/members', way), 'connect_error');
        assert.deepEqual([error.message, error.data], ['who are you', { code: 'no_name' }]);
        const [unknown] = await next(open('/nowhere', way), 'connect_error');
        assert.equal(unknown.message, 'Invalid namespace');
        const [late] = await next(open('/later', way), 'connect_error');
        assert.equal(late.message, 'too late');
        await connected('/later', { ...way, auth: { name: 'ann' } });
      });
    }

    test('the handshake tells whether it came by TLS', async () => {
      const socket = await connected('/');
      assert.equal(await socket.timeout(DEADLINE_MS).emitWithAck('secure'), isSecure);
    });

    test('a client of the other parser is turned away', async () => {
      const other = io(url, {
        forceNew: true,
        reconnection: false,
        transports: ['websocket'],
        ca,
        parser: parser ? undefined : msgpack,
      });
      sockets.push(other);
      const ended = await Promise.race([
        next(other.io, 'close').then(() => 'closed'),
        next(other, 'connect').then(() => 'connected'),
      ]);
      assert.equal(ended, 'closed');
    });
  });
}

/** What holds of every socket, however it came. */
function matrix(connect) {
  test('events and acks keep their arguments', async () => {
    const socket = await connect();
    const deep = { text: 'é\u{1F600}\u001e', list: [1, -2, 1.5, 2 ** 40, [null, { three: false }]], empty: {} };
    assert.deepEqual(await socket.timeout(DEADLINE_MS).emitWithAck('echo', deep), deep);
    socket.emit('echo', 1, 'two', [3]);
    assert.deepEqual(await next(socket, 'echo'), [1, 'two', [3]]);
    socket.send({ plain: true });
    assert.deepEqual(await next(socket, 'message'), [{ plain: true }]);
  });

  test('binary keeps its place, in events and in acks, both ways', async () => {
    const socket = await connect();
    const sent = { deep: [Buffer.from([1, 2, 255]), 'between', Buffer.alloc(70_000, 7)], empty: Buffer.alloc(0) };
    const back = await socket.timeout(DEADLINE_MS).emitWithAck('echo', sent);
    assert.deepEqual([...back.deep[0]], [1, 2, 255]);
    assert.equal(back.deep[1], 'between');
    assert.ok(Buffer.alloc(70_000, 7).equals(back.deep[2]));
    assert.equal(back.empty.byteLength ?? back.empty.length, 0);
    socket.emit('bytes');
    const [first, second] = await next(socket, 'bytes');
    assert.deepEqual([[...first], [...second]], [[1, 2, 3], [4]]);
  });

  test('the server asks one, asks many, and goes on without those that are silent', async () => {
    const [ann, bob, eve] = await Promise.all([connect(), connect(), connect()]);
    const group = `asked-${ann.id}`;
    for (const socket of [ann, bob, eve]) await socket.timeout(DEADLINE_MS).emitWithAck('join', group);
    ann.on('question', ({ n }, answer) => answer(n + 1));
    bob.on('question', ({ n }, answer) => answer(n + 10));
    ann.emit('ask');
    assert.deepEqual(await next(ann, 'answered'), [21]);
    assert.deepEqual(await ann.timeout(DEADLINE_MS).emitWithAck('ask_all', group), { sum: 13, missing: 1 });
  });

  test('a group hears what is said to it, a socket what is said to its id', async () => {
    const [ann, bob, eve] = await Promise.all([connect(), connect(), connect()]);
    const group = `red-${ann.id}`;
    for (const socket of [ann, bob]) await socket.timeout(DEADLINE_MS).emitWithAck('join', group);
    for (const socket of [ann, eve]) socket.on('said', () => assert.fail('it was not for this one'));
    const heard = next(bob, 'said');
    ann.emit('say', group, Buffer.from([5]));
    const [to, bytes] = await heard;
    assert.deepEqual([to, [...bytes]], [group, [5]]);
    const direct = next(bob, 'said');
    ann.emit('say', bob.id, 'to you');
    assert.deepEqual(await direct, [bob.id, 'to you']);
  });

  test('many events arrive in order', async () => {
    const socket = await connect();
    const seen = [];
    const done = new Promise((resolve) => {
      socket.on('n', (n) => seen.push(n) === 500 && resolve());
    });
    socket.emit('count', 500);
    await done;
    assert.deepEqual(seen, Array.from({ length: 500 }, (_, n) => n));
  });

  test('each end has its own reason', async () => {
    const kicked = await connect();
    kicked.emit('kick');
    assert.equal((await next(kicked, 'disconnect'))[0], 'io server disconnect');
    const dropped = await connect();
    dropped.emit('hang_up');
    assert.equal((await next(dropped, 'disconnect'))[0], 'transport close');
    const leaving = await connect();
    const left = next(leaving, 'disconnect');
    leaving.disconnect();
    assert.equal((await left)[0], 'io client disconnect');
  });

  test('who comes back is a new socket that works', async () => {
    const socket = await connect({ reconnection: true, reconnectionDelay: 20 });
    const first = socket.id;
    const again = next(socket, 'disconnect').then(() => next(socket, 'connect'));
    socket.emit('hang_up');
    await again;
    assert.notEqual(socket.id, first);
    assert.ok(!socket.recovered);
    assert.equal(await socket.timeout(DEADLINE_MS).emitWithAck('echo', 'back'), 'back');
  });
}
