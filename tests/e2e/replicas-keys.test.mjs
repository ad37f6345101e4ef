// Calls by a key whose room lives need no leader (S2-6): while it is dead or frozen any replica answers them from the store.
import assert from 'node:assert/strict';
import process from 'node:process';

import { test, until } from './harness.mjs';
import { Callers, Replicas, failover } from './replicas.mjs';

/** Callers by existing keys alone, each call with how long it took and when it began. */
class Timed extends Callers {
  took = [];

  async existing() {
    const began = performance.now();
    await super.existing();
    this.took.push({ began, ms: performance.now() - began });
  }

  longest() {
    return Math.max(0, ...this.took.map(({ ms }) => ms));
  }
}

const KEYS = Array.from({ length: 8 }, (_, i) => `guild:${i}`);
const rounded = (all) => JSON.stringify(Object.fromEntries(Object.entries(all).map(([of, ms]) => [of, Math.round(ms)])));

test('calls by existing keys do not wait for a leader that was killed or frozen', async (t) => {
  const kills = Number(process.env.REPLICA_KILLS ?? 2);
  const replicas = await Replicas.start(t);
  const callers = new Timed(replicas, KEYS);
  await callers.begin();
  const outages = [];
  for (let round = 0; round <= kills; round += 1) {
    const freezes = round === kills;
    const { ms, before: { replica } } = await failover(replicas, (leader) => (freezes ? replicas.freeze(leader) : replicas.kill(leader)));
    outages.push(ms);
    if (freezes) {
      replicas.thaw(replica);
    } else {
      replicas.startReplica(replica);
    }
    await until('it follows', async () => (await replicas.ask(replica, 'GET', '/readyz')).body.replica?.role === 'follower');
  }
  await callers.end();
  const outage = Math.min(...outages);
  t.diagnostic(`${callers.took.length} calls by existing keys, in ms: ${rounded({ longest: callers.longest(), outage })}`);
  assert.deepEqual(callers.failed.existing, []);
  // Not a limit of time: whoever waits for the next leader waits for about as long as the shortest outage.
  const waited = callers.took.filter(({ ms }) => ms > (outage * 3) / 4);
  assert.deepEqual(waited, [], 'nobody waited for the next leader');
});

test('what is told while nobody leads is what the leader told, and it is told by every replica', async (t) => {
  const replicas = await Replicas.start(t, { hosts: ['h1'] });
  const { status, body: room } = await replicas.allocate({ key: 'guild', players: ['ann', 'bob'] });
  assert.equal(status, 200);
  const order = { idempotency_key: 'order-1', players: ['cid'] };
  const { body: made } = await replicas.allocate(order);
  const { body: keys } = await replicas.call('GET', '/v1/keys');
  const { replica: dead, term } = await replicas.leader();
  replicas.kill(dead);
  const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  const told = await Promise.all(replicas.replicas.filter((replica) => replica !== dead).map(async (replica) => {
    // All at once: the lease has not much more than a second left.
    const [again, made, keys, ready] = await Promise.all([
      replicas.ask(replica, 'POST', '/v1/fleets/chat/rooms', { key: 'guild', players: ['bob', 'ann'] }),
      replicas.ask(replica, 'POST', '/v1/fleets/chat/rooms', order),
      replicas.ask(replica, 'GET', '/v1/keys'),
      replicas.ask(replica, 'GET', '/readyz'),
    ]);
    return { again, made, keys, ready };
  }));
  for (const { again, made: { body: repeated }, keys: { body: same }, ready } of told) {
    assert.ok(!(ready.body.replica?.term > term), 'nobody had taken over yet');
    assert.deepEqual([again.status, again.body.room, again.body.url], [200, room.room, room.url]);
    assert.match(again.body.because, /no leader was reached/);
    for (const seat of again.body.seats) {
      const before = room.seats.find(({ player }) => player === seat.player);
      const [now, then] = [claims(seat.token), claims(before.token)];
      assert.deepEqual({ ...now, iat: 0 }, { ...then, iat: 0 }, 'the same token, signed once more');
    }
    assert.deepEqual(repeated, made);
    assert.deepEqual(same, keys);
  }
  // What needs a new seat waits for the next leader, and is not refused.
  const [follower] = replicas.replicas.filter((replica) => replica !== dead);
  const joined = await replicas.ask(follower, 'POST', '/v1/fleets/chat/rooms', { key: 'guild', players: ['eve'] });
  assert.deepEqual([joined.status, joined.body.room], [200, room.room]);
  assert.doesNotMatch(joined.body.because, /store/);
  assert.ok((await replicas.leader()).term > term);
});
