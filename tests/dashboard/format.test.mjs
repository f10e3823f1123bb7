// src/web/format.js and scale.js: what an axis says, and what a figure says beside the server's cards.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { fixed, percent, points, score, share, signedPoints } from '../../src/web/format.js';
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

test('a figure is the one that cards and reports have: the even one of two that are as near', () => {
  // What Rust and Python write of 100 times the share.
  const shares = [[77, 80, '96.2'], [13, 16, '81.2'], [15, 16, '93.8'], [1, 16, '6.2'], [3, 16, '18.8'], [1, 400, '0.2'], [1, 80, '1.2'], [3, 80, '3.8'], [2, 3, '66.7'], [1, 1, '100.0']];
  for (const [right, all, written] of shares) assert.equal(percent(right / all), `${written}\u202f%`, `${right} of ${all}`);
  assert.deepEqual([percent(0.125, 0), percent(0.135, 0), percent(0.005, 0)], ['12\u202f%', '14\u202f%', '0\u202f%']);
  assert.deepEqual([score(1 / 16), score(3 / 16), score(0.0005), score(0.8125)], ['0.062', '0.188', '0.001', '0.812']);
  // 1.005 and 0.15 are none that lie in the middle: the doubles are less and more than that.
  assert.deepEqual([fixed(1.005, 2), fixed(0.15, 1), fixed(0.25, 1), fixed(-0.25, 1), fixed(-96.25, 1), fixed(-0.75, 1), fixed(0, 1)],
    ['1.00', '0.1', '0.2', '-0.2', '-96.2', '-0.8', '0.0']);
});

test('what rounds to nothing has no sign', () => {
  assert.deepEqual([fixed(-0.03, 1), fixed(0.03, 1), fixed(-0, 1), fixed(-0.5, 0), fixed(-0.06, 1)], ['0.0', '0.0', '0.0', '0', '-0.1']);
  assert.deepEqual([percent(-0.0003), score(-0.0001), points(-0.0003)], ['0.0\u202f%', '0.000', '0.0']);
  assert.deepEqual([-0.0003, 0.0003, 0, -0.0006, 0.0006, 0.04].map(signedPoints), ['0.0', '0.0', '0.0', '-0.1', '+0.1', '+4.0']);
});
