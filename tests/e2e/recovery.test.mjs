// Sessions through deploys and crashes, small: every case, a few stock clients. `cargo xtask nightly` plays it large.
import assert from 'node:assert/strict';
import { describe } from 'node:test';

import { test } from './harness.mjs';
import { compare, placesOf } from './recovery/players.mjs';
import { faultsOf, play } from './recovery/run.mjs';
import { SCENARIOS } from './recovery/scenarios.mjs';

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
