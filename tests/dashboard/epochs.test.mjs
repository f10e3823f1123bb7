// src/web/epochs.js: which epochs of a run are kept, and which is its best.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Epochs, better } from '../../src/web/epochs.js';

const row = (epoch, accuracy, more = {}) => ({ epoch, validation_accuracy: accuracy, validation_loss: 0.5, ...more });

test('the best is the one that the server chooses', () => {
  assert.equal(better(row(1, 0.8), row(2, 0.9)).epoch, 2);
  assert.equal(better(row(1, 0.9), row(2, 0.9)).epoch, 1, 'of equals the earlier');
  assert.equal(better(row(1, 0.9), row(2, 0.9, { validation_loss: 0.4 })).epoch, 2);
  assert.equal(better(row(1, 0.8), row(2, 0.92, { validation_collapsed: true })).epoch, 1, 'one that leaves a class out only where all do');
  assert.equal(better(row(1, 0.92, { validation_collapsed: true }), row(2, 0.8, { validation_collapsed: false })).epoch, 2);
  assert.equal(better(row(1, 0.9, { validation_collapsed: true }), row(2, 0.92, { validation_collapsed: true })).epoch, 2);
});

test('of a long run the best and the last are kept, whatever lies between', () => {
  const epochs = new Epochs(10_000);
  for (let epoch = 1; epoch <= 1234; epoch++) epochs.add(row(epoch, epoch === 777 ? 0.95 : 0.9, { validation_collapsed: epoch === 900 }));
  assert.equal(epochs.best.epoch, 777);
  const kept = epochs.rows().map((kept) => kept.epoch);
  assert.ok(kept.includes(1) && kept.includes(777) && kept.includes(1234) && kept.length < 300, `${kept.length}`);
});
