// No single point of failure under everything at once (S0-32, S2-6, S2-27 to S2-29): three replicas, two hosts, a Redis and
// players, each on a machine of its own, killed, frozen and cut off by a seed. `cargo xtask nightly` plays ten minutes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import process from 'node:process';

import { draw } from './cluster/faults.mjs';
import { judge } from './cluster/judge.mjs';
import { BIN, test } from './harness.mjs';

/** A run in which all was well: two fleets, one server started under the faults and stopped again. */
function good() {
  const names = ['chat-1', 'chat-2', 'vault-1', 'vault-2', 'chat-3'];
  const entry = (action, subject, more = {}) => ({ action, subject, reason: 'why', busy: false, ...more });
  const seats = (...players) => players.map((player, seat) => ({ seat, player }));
  return {
    trail: [...names.map((name) => entry('server_started', name)), entry('server_stopped', 'chat-3')].map((one, at) => ({ ...one, number: at + 1 })),
    births: names.map((name, pid) => ({ name, pid, at: pid })),
    alive: names.slice(0, 4).map((name, pid) => ({ name, pid })),
    known: names.slice(0, 4),
    answers: [
      { kind: 'key', id: 'k', room: 'r1', server: 'vault-1', seats: [{ seat: 0, player: 'k/0' }] },
      { kind: 'key', id: 'k', room: 'r1', server: 'vault-1', seats: [{ seat: 1, player: 'k/1' }] },
      { kind: 'order', id: 'o', room: 'r2', server: 'vault-2', seats: seats('o/0', 'o/1') },
      { kind: 'order', id: 'o', room: 'r2', server: 'vault-2', seats: seats('o/0', 'o/1') },
    ],
    failures: [],
    rooms: [
      { room: 'r1', key: 'k', server: 'vault-1', phase: 'live', seats: seats('k/0', 'k/1') },
      { room: 'r2', server: 'vault-2', phase: 'live', seats: seats('o/0', 'o/1') },
    ],
    terms: [[1, ['a']], [2, ['b']]],
    standing: {
      leaders: ['b'], replicas: ['a', 'b', 'c'].map((name) => ({ name, ready: true })), fleets: [{ name: 'chat', ready: 2, replicas_min: 2 }],
    },
    slos: [{ name: 'nobody_stopped', promise: 'nobody', seen: 2, missed: 0 }, { name: 'takeover', promise: 'soon', seen: 1, missed: 1 }],
    swarms: [{ seed: 1, code: 0, finished: 40, faults: 0, violations: [] }],
    faults: { 'kill leader': 1 },
  };
}

test('the judge of a cluster finds nothing where all is well, and each forged violation', () => {
  assert.deepEqual(judge(good()), []);
  const told = (run, action, subject, more = {}) => run.trail.push({ number: run.trail.length + 1, action, subject, reason: 'why', busy: false, ...more });
  for (const [what, forge] of [
    [/^vault-1: server_started 2 times$/, (run) => told(run, 'server_started', 'vault-1')],
    [/^chat-3: server_stopped 2 times$/, (run) => told(run, 'server_stopped', 'chat-3')],
    [/^chat-1 was born 2 times: pids 0, 77$/, (run) => run.births.push({ name: 'chat-1', pid: 77 })],
    [/^chat-9 was born and never ordered$/, (run) => (run.births.push({ name: 'chat-9' }), run.alive.push({ name: 'chat-9' }), run.known.push('chat-9'))],
    [/^chat-8 was stopped and never ordered$/, (run) => told(run, 'server_stopped', 'chat-8')],
    [/^chat-3 was stopped while somebody was on it$/, (run) => (run.trail.at(-1).busy = true)],
    [/^chat-1: server_died, and nobody had harmed it: why$/, (run) => told(run, 'server_died', 'chat-1')],
    [/^chat-1: server_gone, /, (run) => told(run, 'server_gone', 'chat-1')],
    [/^chat-1: server_restarted, /, (run) => told(run, 'server_restarted', 'chat-1')],
    [/^the trail goes from 2 to 4$/, (run) => run.trail.splice(2, 1, { ...run.trail[2], number: 4 }), 2],
    [/^vault-2 ended and nobody had told it to$/, (run) => (run.alive.pop(), run.known.pop())],
    [/^vault-2 runs and control does not know it$/, (run) => run.known.pop()],
    [/^vault-2 is known to control and does not run$/, (run) => run.alive.pop(), 2],
    [/^key k was given r1 and r3$/, (run) => (run.answers[1].room = 'r3', run.rooms.push({ ...run.rooms[0], room: 'r3' })), 2],
    [/^r1 was given to key k and order p$/, (run) => run.answers.push({ ...run.answers[0], kind: 'order', id: 'p' })],
    [/^order o was given r2 and r4$/, (run) => (run.answers[3].room = 'r4', run.rooms.push({ ...run.rooms[1], room: 'r4' }))],
    [/^seat 0 of r1 was given to k\/0 and k\/9$/, (run) => run.answers.push({ ...run.answers[0], seats: [{ seat: 0, player: 'k/9' }] }), 2],
    [/^r1 was on vault-1 and is on vault-2$/, (run) => (run.rooms[0].server = 'vault-2')],
    [/^r2, given to order o, is not kept$/, (run) => run.rooms.pop()],
    [/^r2, given to order o, is not kept$/, (run) => (run.rooms[1].phase = 'ended')],
    [/^r1, given to key k, has the key l$/, (run) => (run.rooms[0].key = 'l')],
    [/^seat 1 of r1 was given to k\/1 and is kept for nobody$/, (run) => run.rooms[0].seats.pop()],
    [/^kept and given to nobody: r5$/, (run) => run.rooms.push({ room: 'r5', seats: [] })],
    [/^vault-1 was stopped, and rooms were promised on it$/, (run) => told(run, 'server_stopped', 'vault-1')],
    [/^an existing key k was refused: 503$/, (run) => run.failures.push({ kind: 'key', id: 'k', wasKnown: true, why: '503' })],
    [/^a new order p was refused: 503$/, (run) => run.failures.push({ kind: 'order', id: 'p', wasKnown: false, why: '503' })],
    [/^in term 2 b and c led$/, (run) => run.terms[1][1].push('c')],
    [/^in the end b and c leads$/, (run) => run.standing.leaders.push('c')],
    [/^in the end nobody leads$/, (run) => run.standing.leaders.pop()],
    [/^in the end c is not ready$/, (run) => (run.standing.replicas[2].ready = false)],
    [/^in the end fleet chat has 3 of 2$/, (run) => (run.standing.fleets[0].ready = 3)],
    [/^the leader tells 1 of 2 times against "nobody"$/, (run) => (run.slos[0].missed = 1)],
    [/^players of seed 1: doubled$/, (run) => run.swarms[0].violations.push('doubled')],
    [/^players of seed 1: 2 had a fault$/, (run) => (run.swarms[0].faults = 2)],
    [/^players of seed 1 ended with 69$/, (run) => (run.swarms[0].code = 69)],
    [/^nothing went wrong: /, (run) => (run.faults = {})],
    [/^nobody played: /, (run) => (run.swarms = [])],
    [/^nobody called: /, (run) => Object.assign(run, { answers: [], rooms: [] })],
    [/^nothing was stopped under the faults: /, (run) => (run.trail.pop(), run.alive.push({ name: 'chat-3' }), run.known.push('chat-3'))],
  ]) {
    const run = good();
    forge(run);
    const found = judge(run);
    assert.ok(found.some((fault) => what.test(fault)), `${what} is found, and what is found is ${JSON.stringify(found)}`);
  }
});

test('faults are drawn by the seed, overlap, and hurt everybody', () => {
  const plan = draw(7, 600);
  assert.deepEqual(draw(7, 600), plan);
  assert.notDeepEqual(draw(8, 600), plan);
  for (const key of ['kind', 'whom']) assert.equal(new Set(plan.map((fault) => fault[key])).size, { kind: 5, whom: 4 }[key], key);
  assert.ok(plan.some(({ at, lasting }, i) => plan[i + 1]?.at < at + lasting), 'some overlap');
  assert.ok(plan.every(({ at, lasting }) => at < 600_000 && lasting <= 8_000));
  const short = draw(SEED, 20);
  for (const key of ['kind', 'whom']) assert.equal(new Set(short.map((fault) => fault[key])).size, { kind: 5, whom: 4 }[key], key);
});

/** In 20 s it harms everybody, in every way; the leader is killed twice, frozen and cut off. */
const SEED = 157;

/** Plays one run of the cluster in a process of its own; fails unless nothing was wrong. */
async function play(t, ...args) {
  const seed = Number(process.env.CLUSTER_SEED ?? SEED);
  t.diagnostic(`seed ${seed}`);
  const run = new URL('cluster/run.mjs', import.meta.url).pathname;
  const { error, out, said } = await new Promise((done) => execFile(process.execPath, [run, '--seed', String(seed), ...args],
    { timeout: 170_000, maxBuffer: 1e8 }, (error, out, said) => done({ error, out, said })));
  t.diagnostic(out);
  assert.equal(error, null, `seed ${seed}: ${out}\n${said}`);
}

test('three replicas, their hosts and their store are killed, frozen and cut off, and every promise is kept', async (t) => {
  await play(t, '--seconds', '20');
});

// With another version's binary it is an upgrade and the way back; with the same one it is the exchange of every part.
test('every part is exchanged for another version and back, and nobody notices', async (t) => {
  await play(t, '--older', process.env.GREENROOM_OLDER_BIN ?? BIN);
});
