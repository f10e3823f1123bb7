// src/web/format.js and scale.js: what an axis says.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { share } from '../../src/web/format.js';
import { domain, ticks } from '../../src/web/scale.js';

test('the labels of an axis tell its heights apart, and are those heights', () => {
  for (const values of [[0.966, 0.976], [0.985, 0.999], [0.91, 0.99], [0.9612, 0.9618], [0, 1], [0.2, 0.93]]) {
    const heights = ticks(...domain(values, { bounds: [0, 1] }), 4);
    const labels = heights.map((height) => share(height, heights));
    assert.equal(new Set(labels).size, labels.length, `${labels}`);
    labels.forEach((label, i) => assert.ok(Math.abs(Number.parseFloat(label) / 100 - heights[i]) < 1e-9, `${label} stands at ${heights[i]}`));
  }
  assert.equal(share(0.9753), '97.5\u202f%');
});
