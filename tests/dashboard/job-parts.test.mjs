// src/web/job-parts.js: whose steps the bars of jobs and sweeps count.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { shareOfSweep, soFar, stepsOf } from '../../src/web/job-parts.js';

test('a bar counts the steps of pretraining while it lasts, and the run’s own before it tells any and after it', () => {
  const pretraining = { step: 30, steps: 180 };
  const job = { state: 'running', phase: 'pretraining', step: 0, steps: 900, pretraining };
  assert.equal(stepsOf(job), pretraining);
  for (const other of [{ pretraining: null }, { pretraining: undefined }, { phase: 'training' }, { phase: 'importing' }, { state: 'paused' }]) {
    const next = { ...job, ...other };
    assert.equal(stepsOf(next), next, JSON.stringify(other));
  }
});

test('beside a badge stands how far its job is, and what of it is counted where those are not its own steps', () => {
  const job = { state: 'running', phase: 'pretraining', step: 0, steps: 900, pretraining: { step: 30, steps: 180 } };
  assert.equal(soFar(job), 'pretraining 17\u202f%');
  assert.equal(soFar({ ...job, pretraining: null }), 'pretraining');
  assert.equal(soFar({ ...job, phase: 'training', step: 90 }), '10\u202f%');
  assert.equal(soFar({ ...job, state: 'paused' }), null);
});

test('a sweep moves on while its jobs pretrain, and does not fall back when they have', () => {
  const job = (step, pretraining) => ({ step, steps: 900, pretraining });
  // One of two has succeeded.
  const share = (step, pretraining) => shareOfSweep({ step: 900 + step, steps: 1800 }, [job(step, pretraining)]);
  const shares = [[0, null], [0, { step: 50, steps: 100 }], [0, { step: 100, steps: 100 }], [450, { step: 100, steps: 100 }], [900, { step: 100, steps: 100 }]].map((at) => share(...at));
  assert.deepEqual(shares, [0.5, 0.525, 0.55, 0.775, 1]);
  // Without pretraining it is what the sweep says.
  assert.equal(share(450, null), 0.75);
  assert.equal(shareOfSweep({ step: 300, steps: 1200 }, []), 0.25);
  // A job that was asked about later than its sweep.
  assert.equal(shareOfSweep({ step: 0, steps: 900 }, [job(9, null)]), 0.01);
  assert.equal(shareOfSweep({ step: 0, steps: 0 }, []), 0);
});
