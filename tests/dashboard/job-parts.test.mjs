// src/web/job-parts.js: whose steps a job's bar counts.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { stepsOf } from '../../src/web/job-parts.js';

test('a bar counts the steps of pretraining while it lasts, and the run’s own before it tells any and after it', () => {
  const pretraining = { step: 30, steps: 180 };
  const job = { state: 'running', phase: 'pretraining', step: 0, steps: 900, pretraining };
  assert.equal(stepsOf(job), pretraining);
  for (const other of [{ pretraining: null }, { pretraining: undefined }, { phase: 'training' }, { phase: 'importing' }, { state: 'paused' }]) {
    const next = { ...job, ...other };
    assert.equal(stepsOf(next), next, JSON.stringify(other));
  }
});
