// Sessions through deploys and crashes, small: every case, a few stock clients. `cargo xtask nightly` plays it large.
import assert from 'node:assert/strict';
import { describe } from 'node:test';

import { test } from './harness.mjs';
import { faultsOfMixed, playMixed } from './recovery/mixed.mjs';
import { compare, placesOf } from './recovery/players.mjs';
import { faultsOf, play } from './recovery/run.mjs';
import { SCENARIOS } from './recovery/scenarios.mjs';
import { isTrue, judgeOwn, judgeStay, orderOf } from './recovery/sequence.mjs';

const CLIENTS = 50;

test('the judge finds what is missing, doubled, late and strange', () => {
  const places = placesOf([1, 2, 3, 4]);
  for (const [seen, lost, doubled, reordered, strange] of [
    [[1, 2, 3, 4], 0, 0, 0, 0],
    [[], 4, 0, 0, 0],
    [[1, 2, 4], 1, 0, 0, 0],
    [[1, 2, 2, 3, 4], 0, 1, 0, 0],
    [[1, 3, 2, 4], 0, 0, 1, 0],
    [[1, 2, 3, 4, 9], 0, 0, 0, 1],
  ]) assert.deepEqual(compare(seen, places), { lost, doubled, reordered, strange }, String(seen));
});

test('the judge of stays knows what must be seen, and what may be', () => {
  // Words 1 to 6, said at 10, 20, ...; the third and the sixth are for the group.
  const order = orderOf([1, 2, 3, 4, 5, 6].map((code) => [code, code * 10, code % 3 === 0]));
  const all = { beganAt: 0, settledAt: 0, isOpen: true };
  for (const [what, stay, missing, rest = [0, 0, 0]] of [
    ['everything', { ...all, seen: [1, 2, 3, 4, 5, 6] }, []],
    ['nothing', { ...all, seen: [] }, [1, 2, 3, 4, 5, 6]],
    ['one is missing', { ...all, seen: [1, 2, 4, 5, 6] }, [3]],
    ['one is missing before the end', { ...all, isOpen: false, seen: [1, 4] }, [2, 3]],
    ['what came after the end', { ...all, isOpen: false, seen: [1, 2] }, []],
    ['began in the middle', { ...all, beganAt: 35, settledAt: 35, seen: [4, 5, 6] }, []],
    ['began in the middle, heard a little more', { ...all, beganAt: 35, settledAt: 35, seen: [2, 4, 5, 6] }, []],
    ['what follows the first one must be there', { ...all, beganAt: 45, settledAt: 45, seen: [2, 5, 6] }, [4]],
    ['what was said after the beginning', { ...all, beganAt: 35, settledAt: 35, seen: [5, 6] }, [4]],
    ['in no group yet', { ...all, settledAt: 45, seen: [1, 2, 4, 5, 6] }, []],
    ['never in a group', { ...all, settledAt: undefined, seen: [1, 2, 4, 5] }, []],
    ['twice', { ...all, seen: [1, 2, 2, 3, 4, 5, 6] }, [], [1, 0, 0]],
    ['late', { ...all, seen: [1, 3, 2, 4, 5, 6] }, [], [0, 1, 0]],
    ['strange', { ...all, seen: [1, 2, 3, 4, 5, 6, 99] }, [], [0, 0, 1]],
  ]) {
    const found = judgeStay(stay, order);
    assert.deepEqual([found.missing, found.doubled, found.reordered, found.strange], [missing, ...rest], what);
  }
});

test('the judge of own words knows that nothing overtakes on one connection', () => {
  const sent = [[1, 1], [2, 1], [3, 1], [4, 2], [5, 2]];
  for (const [seen, missing, doubled, reordered] of [
    [[1, 2, 3, 4, 5], [], 0, 0],
    [[1, 2, 4], [], 0, 0],
    [[], [], 0, 0],
    [[1, 3, 5], [4, 2], 0, 0],
    [[1, 2, 2, 3], [], 1, 0],
    [[2, 1, 3], [], 0, 1],
  ]) assert.deepEqual(judgeOwn(sent, seen), { lost: missing.length, doubled, reordered, missing }, String(seen));
});

test('the judge of reasons knows when they are true', () => {
  const world = { window: 10_000, storeDown: [[50_000, 51_000]], away: [[[70_000, 72_000]], []] };
  for (const [isSo, refusal] of [
    [true, { reason: 'unavailable', at: 50_500, node: 1 }],
    [true, { reason: 'unavailable', at: 73_000, node: 0 }],
    [false, { reason: 'unavailable', at: 83_000, node: 0 }],
    [false, { reason: 'unavailable', at: 65_000, node: 1 }],
    [false, { reason: 'unavailable', at: 49_000, node: 1 }],
    [true, { reason: 'window_over', awayMs: 11_000 }],
    [false, { reason: 'window_over', awayMs: 5_000 }],
    [true, { reason: 'unknown_session', awayMs: 1_000, wasKept: false }],
    [true, { reason: 'unknown_session', awayMs: 21_000, wasKept: true }],
    [false, { reason: 'unknown_session', awayMs: 11_000, wasKept: true }],
    [false, { reason: 'rewound', awayMs: 60_000 }],
    [false, { reason: 'history_full', awayMs: 60_000 }],
    [false, { awayMs: 60_000 }],
  ]) assert.equal(isTrue({ at: 0, node: 0, ...refusal }, world), isSo, JSON.stringify(refusal));
});

test('a mixed run over Redis: cuts, SIGTERM, kill -9, freezes and five restarts of the store at once', async (t) => {
  const result = await playMixed();
  t.diagnostic(JSON.stringify(result));
  assert.deepEqual(faultsOfMixed(result), []);
});

// The reference is played too: a probe that finds no fault anywhere proves nothing.
describe('the npm server with the Redis Streams adapter', () => {
  test('recovers after SIGTERM', async (t) => {
    const { recovered, whole, doubled, reordered, ...rest } = await play('npm', 'sigterm', 8);
    t.diagnostic(JSON.stringify({ recovered, whole, ...rest }));
    // It stores a session while it ends, and loses what is said between reading its stream and joining its rooms again: on a busy
    // machine that happens to some.
    assert.ok(recovered > 0 && whole > 0, 'some are recovered');
    assert.deepEqual({ doubled, reordered }, { doubled: 0, reordered: 0 });
  });
  for (const scenario of ['kill', 'zero', 'missed']) {
    test(`recovers nobody: ${scenario}`, async () => {
      const { recovered, whole, lost } = await play('npm', scenario, 8);
      assert.deepEqual({ recovered, whole }, { recovered: 0, whole: 0 });
      assert.ok(lost > 0);
    });
  }
});

for (const backplane of ['hub', 'redis']) {
  describe(`Greenroom over ${backplane}`, () => {
    for (const [scenario, { title, most }] of Object.entries(SCENARIOS)) {
      test(title, async (t) => {
        // A fleet of its own: a server that died often is started again ever later.
        const result = await play(backplane, scenario, most ? 10 : CLIENTS);
        t.diagnostic(JSON.stringify(result));
        assert.deepEqual(faultsOf(result), []);
      });
    }
  });
}
