// src/web/view-job-new.js: what of an earlier job's configuration a new job is given.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { others } from '../../src/web/view-job-new.js';

const given = (config) => JSON.parse(others(config) || '{}');

test('what has a field of its own is not given again', () => {
  const config = { preset: 'quick', algorithm: 'mixmatch', labelled: 40, seed: 1, fit: 'crop', k: 2, positive_class: null };
  assert.deepEqual(given(config), { k: 2, positive_class: null });
  assert.equal(others({ preset: 'quick' }), '');
  assert.equal(others({}), '');
});

test('what the server made of the run’s length is not given to a run of another', () => {
  const momentum = (epochs, steps_per_epoch, bn_momentum) => given({ epochs, steps_per_epoch, bn_momentum }).bn_momentum;
  // Short trials, down to the one that takes the newest batch alone; and one whose quotient is no short decimal.
  for (const [epochs, steps, derived] of [[2, 10, 0.25], [4, 250, 0.005], [1, 2, 1], [2, 6, 5 / 12], [7, 11, 0.06493506493506494]]) {
    assert.equal(momentum(epochs, steps, derived), undefined, `${epochs} × ${steps}`);
  }
  // The preset's own, and what somebody has chosen.
  assert.equal(momentum(30, 300, 0.02), 0.02);
  assert.equal(momentum(64, 256, 0.001), 0.001);
  assert.equal(momentum(2, 10, 0.3), 0.3);
  assert.deepEqual(given({ epochs: 2, steps_per_epoch: 10, bn_momentum: 0.25, k: 1 }), { epochs: 2, steps_per_epoch: 10, k: 1 });
});
