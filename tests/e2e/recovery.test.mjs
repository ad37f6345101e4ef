// Sessions through deploys and crashes, small: every case, a few stock clients. `cargo xtask nightly` plays it large.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { compare, placesOf } from './recovery/players.mjs';
import { faultsOf, play, playAgainst, windowOf } from './recovery/run.mjs';
import { SCENARIOS } from './recovery/scenarios.mjs';
import { SUBJECTS } from './recovery/subjects.mjs';

const CLIENTS = 50;
const USUAL = 120_000;

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

// The reference is played too: a probe that finds no fault anywhere proves nothing.
describe('the npm server with the Redis Streams adapter', () => {
  test('recovers after SIGTERM', async () => {
    const { recovered, whole, lost, doubled, reordered } = await play('npm', 'sigterm', 8);
    assert.deepEqual({ recovered, whole, lost, doubled, reordered }, { recovered: 8, whole: 8, lost: 0, doubled: 0, reordered: 0 });
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
    let subject;
    before(async () => (subject = await SUBJECTS[backplane](3, USUAL)));
    after(() => subject?.stop());
    for (const [scenario, { title, most }] of Object.entries(SCENARIOS)) {
      test(title, async (t) => {
        const isUsual = windowOf(scenario) === USUAL;
        if (isUsual) await Promise.all([0, 1].map((server) => subject.revive(server)));
        const result = await (isUsual ? playAgainst(subject, scenario, most ? 10 : CLIENTS) : play(backplane, scenario, CLIENTS));
        t.diagnostic(JSON.stringify(result));
        assert.deepEqual(faultsOf(result), []);
      });
    }
  });
}
