// src/web/compare-images.js: whether figures that stand side by side are of the same images.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { doubt, sources } from '../../src/web/compare-images.js';

const job = (name, id, validation, images, config = {}) => ({
  dataset: { id, name }, state: 'succeeded', best: validation && { validation_images: validation }, test: images && { images },
  config: { labelled: 40, seed: 1, validation: 0.2, validation_max: 1000, ...config },
});
const listed = (...jobs) => sources(jobs).map(({ name, value }) => [name, ...jobs.map((one) => value(one, jobs))]);

test('of several data sets it is said, with the numbers of images, and all that the figures come from is listed', () => {
  const jobs = [job('faces', 'a', 600, 800), job('faces', 'a', 600, 800, { labelled: null }), job('masks', 'b', 1, null)];
  const { kind, words } = doubt(jobs);
  assert.equal(kind, 'notice warn');
  assert.match(words, /2 data sets.*not of the same images: faces \(600 validation images, 800 test images\); masks \(1 validation image, no test images\)\./);
  assert.deepEqual(listed(...jobs), [['data set', 'faces', 'faces', 'masks'], ['labels', '40', 'all', '40'], ['validation images', '600', '600', '1'], ['test images', '800', '800', '–']]);
  assert.match(doubt([job('faces', 'a', 6, 8), { ...job('masks', 'b', null, null), state: 'running' }]).words, /masks \(no validation images yet, no test images yet\)/);
});

test('two that are called alike are told apart', () => {
  const jobs = [job('faces', '00-aaaaaa', 600, 800), job('faces', '00-bbbbbb', 600, 800)];
  assert.match(doubt(jobs).words, /faces \(aaaaaa\) \(600.*faces \(bbbbbb\) \(600/);
});

test('of one data set only what differs is listed, and that another seed validates with other images', () => {
  assert.equal(doubt([job('faces', 'a', 600, 800), job('faces', 'a', 600, 800)]), null);
  assert.deepEqual(listed(job('faces', 'a', 600, 800), job('faces', 'a', 600, 800, { labelled: 90 })), [['labels', '40', '90']]);
  assert.match(doubt([job('faces', 'a', 600, 800), job('faces', 'a', 600, 800, { seed: 2 })]).words, /validation images were drawn apart.*test images are the same\./);
  assert.doesNotMatch(doubt([job('faces', 'a', 600, null), job('faces', 'a', 600, null, { seed: 2 })]).words, /test images/, 'there are none');
});
