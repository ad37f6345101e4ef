// The store is no single point of failure either (L-9): two Redis servers and three sentinels, under three replicas of the
// control plane and under the nodes of a whiteboard. The primary gets `kill -9`, comes back as the replica, and then the other.
import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';

import { io } from 'socket.io-client';

import { whiteboard } from './configs.mjs';
import { BIN, test, until } from './harness.mjs';
import { Watched } from './redis.mjs';
import { Callers, Replicas } from './replicas.mjs';

const WATCHERS = 6;
/** Reasons that are true after a takeover: the replica lacked the last events, or nobody was the primary yet. */
const TRUE_REASONS = ['rewound', 'unavailable'];

class OnSentinels extends Replicas {
  static async prepare(...args) {
    const self = await super.prepare(...args);
    self.redis = await Watched.start({ keeps: 'everysec', env: self.env });
    const env = `env = { GREENROOM_REDIS = "${self.redis.url}" }\n`;
    await appendFile(self.toml('control'), whiteboard(2, { recovery: '2m' }).replace('"greenroom"', JSON.stringify(BIN)) + env);
    return self;
  }

  async startRedis() {}

  storeUrl() {
    return this.redis.url;
  }
}

/** Sees what is drawn, and comes back by itself. */
class Watcher {
  constructor(url) {
    Object.assign(this, { seen: [], words: [], ids: [] });
    this.socket = io(url, {
      auth: { greenroom: { recovery: true } },
      forceNew: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 200,
      transports: ['websocket'],
    });
    this.socket.on('connect', () => this.ids.push(this.socket.id));
    this.socket.on('greenroom:recovery', (word) => this.words.push(word));
    this.socket.on('drawing', ({ x0 }) => this.seen.push(Math.round(x0 * 100_000)));
  }

  last() {
    return this.seen.at(-1) ?? 0;
  }
}

/** Draws all the while: each stroke has a number. */
function draw(socket) {
  const drawing = { strokes: 0 };
  drawing.timer = setInterval(() => {
    if (socket.connected) socket.emit('drawing', { x0: (drawing.strokes += 1) / 100_000, y0: 0, x1: 0, y1: 0 });
  }, 20);
  return drawing;
}

test('the primary of a watched Redis is killed, comes back as a replica, and then the other one is', async (t) => {
  const replicas = await OnSentinels.start(t);
  const { redis } = replicas;
  const servers = async () => {
    const { body } = await replicas.call('GET', '/v1/gameservers');
    return body.gameservers.map(({ name, pid, restarts }) => `${name} ${pid} ${restarts}`).toSorted();
  };
  const before = await servers();
  const endpoint = async () => (await replicas.call('GET', '/v1/fleets/whiteboard/endpoint')).body.url;
  const watchers = await Promise.all(Array.from({ length: WATCHERS }, async () => new Watcher(await endpoint())));
  const artist = new Watcher(await endpoint());
  t.after(() => [...watchers, artist].forEach(({ socket }) => socket.disconnect()));
  await until('everybody is there', () => [...watchers, artist].every(({ socket }) => socket.connected));
  const drawing = draw(artist.socket);
  t.after(() => clearInterval(drawing.timer));
  const callers = new Callers(replicas, Array.from({ length: 8 }, (_, i) => `guild:${i}`));
  await callers.begin();
  await until('everybody sees it', () => watchers.every((watcher) => watcher.last() > 50));
  const told = {};

  for (const round of [1, 2]) {
    const primary = await until('they agree', async () => {
      const nth = await redis.primary();
      return nth >= 0 && { nth };
    });
    const other = 1 - primary.nth;
    await until('the other one has all', () => redis.isReplica(other), 60_000);
    const killedAt = performance.now();
    await redis.stores[primary.nth].kill();
    await until('the other one is the primary', async () => (await redis.primary()) === other, 60_000);
    const takenAt = performance.now();
    const mark = drawing.strokes;
    await until(() => `what is drawn is seen again; at ${mark}: ${watchers.map((watcher) => watcher.last())}`,
      () => watchers.every((watcher) => watcher.last() > mark), 30_000);
    const seenAt = performance.now();
    await until(() => `new rooms are given again: ${replicas.said()}`, async () => {
      const order = { idempotency_key: `after-${round}-${Math.random()}`, players: ['p'], timeout_ms: 1000 };
      return (await replicas.allocate(order)).status === 200;
    }, 30_000);
    const times = [takenAt, seenAt, performance.now()].map((at) => Math.round(at - killedAt));
    t.diagnostic(`round ${round}, ms after the kill: another primary, strokes, rooms: ${times}`);

    // Who loses its connection now comes back to its session, or is told why not.
    for (const { socket } of watchers) socket.io.engine.close();
    await until('everybody is back', () => watchers.every(({ socket, words }) => socket.connected && words.length === round + 1));
    for (const { words } of watchers) {
      const { recovered, reason } = words.at(-1);
      const what = recovered ? 'recovered' : reason;
      told[what] = (told[what] ?? 0) + 1;
      assert.ok(recovered || TRUE_REASONS.includes(reason), JSON.stringify(words));
    }
    await redis.stores[primary.nth].begin();
    await until('the killed one is a replica', () => redis.isReplica(primary.nth), 90_000);
  }

  clearInterval(drawing.timer);
  await until('all has been seen', () => watchers.every((watcher) => watcher.last() === drawing.strokes));
  await callers.end();
  t.diagnostic(`sessions: ${JSON.stringify(told)}; ${callers.calls} calls, the slowest ${callers.slowest} ms, new rooms that failed: ${JSON.stringify(callers.failed.fresh.slice(0, 5))}`);
  for (const { seen, words, ids } of watchers) {
    assert.ok(seen.every((stroke, i) => i === 0 || stroke > seen[i - 1]), 'nothing twice or out of order');
    if (words.slice(1).every(({ recovered }) => recovered)) {
      assert.equal(seen.length, seen.at(-1) - seen[0] + 1, 'nothing is missing');
      assert.equal(new Set(ids).size, 1, 'one session');
    }
  }
  assert.deepEqual(callers.failed.existing, [], 'no call by an existing key failed');
  const made = [...callers.made.values()].map(({ room }) => room);
  assert.equal(new Set(made).size, made.length, 'no room was given twice');
  assert.deepEqual(await servers(), before, 'no server was started, stopped or restarted');
});
