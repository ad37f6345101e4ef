// No single point of failure (S0-32, S2-6, S2-29): three replicas, two agents, a real Redis; the leader is killed, frozen
// and told to stop while rooms are allocated.
import assert from 'node:assert/strict';
import process from 'node:process';

import { isAlive, pause, test, until } from './harness.mjs';
import { Callers, Replicas, failover } from './replicas.mjs';

/** What runs: name to pid, of all servers. */
const running = async (replicas) => {
  const { body } = await replicas.call('GET', '/v1/gameservers');
  return new Map(body.gameservers.map(({ name, pid, restarts }) => [name, `${pid}/${restarts}`]));
};

/** Nothing was lost, nothing done twice: what runs is what ran, each order has one room, each key its own. */
async function assertUnharmed(replicas, callers, before) {
  assert.deepEqual(callers.failed.existing, [], 'no call by an existing key failed');
  assert.deepEqual(callers.failed.fresh, [], 'no new room failed either');
  assert.deepEqual(await running(replicas), before, 'no server was started, stopped or restarted');
  const { body: { entries } } = await replicas.call('GET', '/v1/audit?limit=1000');
  assert.deepEqual(entries.filter(({ action }) => action !== 'server_started'), [], 'nothing was stopped by anybody');
  assert.equal(entries.length, before.size, 'nothing was started but what ran before');
  const rooms = new Map();
  for (let offset = 0; ; offset += 5000) {
    const { body } = await replicas.call('GET', `/v1/rooms?offset=${offset}&limit=5000`);
    for (const room of body.rooms) rooms.set(room.room, room);
    if (offset + 5000 >= body.total) break;
  }
  const given = new Set([...callers.made.values()].map(({ room }) => room));
  assert.equal(given.size, callers.made.size, 'no room was given twice');
  for (const room of given) assert.ok(rooms.has(room), `${room} is kept`);
  for (const [key, room] of callers.rooms) assert.equal(rooms.get(room)?.key, key);
  for (const [id, answer] of [...callers.made].slice(-50)) {
    const { body } = await replicas.allocate({ idempotency_key: id, players: ['p'], timeout_ms: 30_000 });
    assert.equal(body.room, answer.room, 'an order that is repeated has the same room');
  }
}

test('a leader that is killed, frozen or stopped is followed by another, and nobody notices', async (t) => {
  const replicas = await Replicas.start(t);
  const before = await running(replicas);
  const callers = new Callers(replicas, Array.from({ length: 8 }, (_, i) => `guild:${i}`));
  await callers.begin();
  const times = {};

  const killed = await failover(replicas, (leader) => replicas.kill(leader));
  times.killed = Math.round(killed.ms);
  replicas.startReplica(killed.before.replica);
  const second = await replicas.leader();
  assert.ok(second.term > killed.before.term, 'the term is above the old one');

  const frozen = await failover(replicas, (leader) => replicas.freeze(leader));
  times.frozen = Math.round(frozen.ms);
  // It believes to lead when it thaws. The store and the agents know better.
  await pause(500);
  replicas.thaw(frozen.before.replica);
  await until('the thawed one follows', async () => {
    const { body } = await replicas.ask(frozen.before.replica, 'GET', '/readyz');
    return body.replica?.role === 'follower' && body.ready;
  });
  await until('it says so', () => /leadership lost/.test(frozen.before.replica.run.output));
  assert.notEqual((await replicas.leader()).name, frozen.before.name);

  const stopped = await failover(replicas, (leader) => {
    leader.state = 'down';
    leader.run.child.kill('SIGTERM');
  });
  times.stopped = Math.round(stopped.ms);
  await until('the stopped one has ended', () => !isAlive(stopped.before.replica.run.child.pid));
  await until('it says so', () => /leadership handed back/.test(stopped.before.replica.run.output));
  replicas.startReplica(stopped.before.replica);

  const { body: overview } = await replicas.call('GET', '/v1/overview');
  const last = await replicas.leader();
  assert.deepEqual([overview.leader, overview.term], [last.name, last.term]);
  await callers.end();
  t.diagnostic(`failover in ms: ${JSON.stringify(times)}; ${callers.calls} calls, the slowest ${callers.slowest} ms`);
  await assertUnharmed(replicas, callers, before);
  assert.ok(times.stopped < 2000, 'a lease that is given back is not waited for');
});

/** How long nobody led, in the words of the leader; from outside it took `ms`. */
async function takeover(replicas, ms) {
  const { body: { slos } } = await replicas.call('GET', '/v1/slos');
  const of = (name) => slos.find((slo) => slo.name === name);
  for (const name of ['nobody_stopped', 'rooms_kept', 'placed']) assert.equal(of(name).missed, 0, JSON.stringify(of(name)));
  const { seen, longest_ms: longest } = of('takeover');
  assert.equal(seen, 1, 'it has taken over once');
  // From the last renewal that it saw, which is up to half a second before the kill and never less than a lease before it led.
  assert.ok(longest >= 2000 && longest < ms + 1500, `${longest} ms are told of ${Math.round(ms)} ms`);
  return longest;
}

test('a leader may die again and again', { timeout: 60_000 + Number(process.env.REPLICA_KILLS ?? 3) * 10_000 }, async (t) => {
  const kills = Number(process.env.REPLICA_KILLS ?? 3);
  const replicas = await Replicas.start(t);
  const before = await running(replicas);
  const callers = new Callers(replicas, Array.from({ length: 8 }, (_, i) => `guild:${i}`));
  await callers.begin();
  const [times, told] = [[], []];
  for (let kill = 0; kill < kills; kill += 1) {
    const { ms, before: { replica } } = await failover(replicas, (leader) => replicas.kill(leader));
    times.push(ms);
    told.push(await takeover(replicas, ms));
    replicas.startReplica(replica);
    await until('it follows', async () => (await replicas.ask(replica, 'GET', '/readyz')).body.replica?.role === 'follower');
  }
  await callers.end();
  for (const all of [times, told]) all.sort((a, b) => a - b);
  const at = (share) => Math.round(times[Math.min(times.length - 1, Math.floor(times.length * share))]);
  t.diagnostic(`${kills} kills, failover in ms: median ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)}; ` +
    `${callers.calls} calls, the slowest ${callers.slowest} ms; told by the leaders: longest ${told.at(-1)} ms`);
  await assertUnharmed(replicas, callers, before);
});

test('an upgrade of the control plane, one replica after the other, fails no call', async (t) => {
  const replicas = await Replicas.start(t);
  const before = await running(replicas);
  const callers = new Callers(replicas, ['guild:a', 'guild:b']);
  await callers.begin();
  for (const replica of replicas.replicas) {
    replica.state = 'down';
    replica.run.child.kill('SIGTERM');
    await until('it has ended', () => !isAlive(replica.run.child.pid));
    replicas.startReplica(replica);
    await until('it is back', async () => (await replicas.ask(replica, 'GET', '/readyz')).status === 200);
  }
  await callers.end();
  t.diagnostic(`${callers.calls} calls, the slowest ${callers.slowest} ms`);
  await assertUnharmed(replicas, callers, before);
});

test('a store that is frozen, or killed and started again with its data, only makes calls wait', async (t) => {
  const replicas = await Replicas.start(t);
  const before = await running(replicas);
  const callers = new Callers(replicas, ['guild:a', 'guild:b']);
  await callers.begin();
  replicas.redis.child.kill('SIGSTOP');
  await pause(2500);
  replicas.redis.child.kill('SIGCONT');
  await until('calls go on', async () => (await replicas.allocate({ key: 'guild:a', players: ['of-guild:a'] })).status === 200);
  // Everything that was answered is on the disk by then.
  await callers.end();
  await pause(1500);
  await replicas.redis.restart();
  await until('calls go on', async () => (await replicas.allocate({ key: 'guild:a', players: ['of-guild:a'] })).status === 200);
  await assertUnharmed(replicas, callers, before);
});

test('a store that is away is told at once, and waited for', async (t) => {
  const replicas = await Replicas.prepare(t, ['a'], []);
  const [alone] = replicas.replicas;
  replicas.startReplica(alone);
  const says = (words) => until(() => `control says ${words}; it said\n${replicas.said()}`, () => words.test(alone.run.output));
  await says(/the store does not answer.*127\.0\.0\.1/);
  await replicas.startRedis();
  await replicas.leader();
  await says(/the store answers again/);
});
