// src/web/view-job-new.js: what of an earlier job's configuration a new job is given, how many labels it can be given, and what is sent.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { choseAll, divided, labelsHint, readLabels } from '../../src/web/job-labels.js';
import { others, request } from '../../src/web/view-job-new.js';

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

const set = (train, picked, classes = 2) => ({ classes: Array.from({ length: classes }, (_, at) => `c${at}`), counts: { train, picked, test: {}, unlabelled: 0 } });

test('of labels that were picked none validates, and they train after those that were drawn', () => {
  assert.deepEqual(divided(set({ a: 40, b: 41 }, 11)), { all: 81, picked: 11, drawn: 70, validate: 14, left: 56, most: 67 });
  const hint = labelsHint(set({ a: 40, b: 41 }, 11));
  assert.match(hint, /^Of 81 labelled training images: 14 of those that were drawn validate.* at most 67 can be trained on/);
  assert.match(hint, /11 were picked: .* only with more than 56 labels\.$/);
});

test('what validates is a share of the labels, within its bounds', () => {
  const validate = (...given) => divided(...given).validate;
  assert.equal(validate(set({ a: 1500, b: 1500 }, 0)), 600);
  assert.equal(validate(set({ a: 9000, b: 9000 }, 0)), 1000);
  assert.equal(validate(set({ a: 9, b: 9 }, 0)), 4, 'rounded up');
  assert.equal(validate(set({ a: 20 }, 0, 10)), 10, 'one of each class');
  assert.equal(validate(set({ a: 50, b: 50 }, 0), { validation: 0.5, validation_max: 30 }), 30);
  assert.equal(validate(set({ a: 50, b: 50 }, 0), { validation: 0.9 }), 90);
  assert.equal(validate(set({ a: 50, b: 50 }, 0), { validation: 0.07 }), 7, 'a whole number, though 100 × .07 is a little more in binary');
  assert.equal(validate(set({ a: 2, b: 100 }, 0), { validation: 0.99 }), 100, 'one of each class is left to train on');
  assert.equal(validate(set({ a: 50, b: 50 }, 0), { validation: 'much' }), 20, 'what the server will refuse');
  assert.doesNotMatch(labelsHint(set({ a: 50, b: 50 }, 0)), /picked|drawn/);
});

test('an empty number of labels is said to be what the server makes of it', () => {
  const many = set({ a: 1000, b: 1000 }, 0);
  assert.match(labelsHint(many, {}, 'quick'), /Empty takes all of these;/);
  assert.match(labelsHint(many, {}, 'reference'), /Empty takes 1,000 of these, the preset’s number;/);
  assert.match(labelsHint(many, {}, null), /Empty takes all of these;/);
  assert.match(labelsHint(set({ a: 50, b: 50 }, 0), {}, 'reference'), /Empty takes all of these;/, 'there are fewer');
});

test('an empty number of labels is what “More hyper-parameters” says, where that says one', () => {
  const many = set({ a: 1000, b: 1000 }, 0);
  const hint = (labelled, preset) => /Empty takes (.*);/.exec(labelsHint(many, { labelled }, preset))[1];
  assert.equal(hint(500, 'quick'), '500, as “More hyper-parameters” says');
  assert.equal(hint([20, 40, null], 'reference'), '20, 40, all, as “More hyper-parameters” says');
  assert.equal(hint(500, null), '500, as “More hyper-parameters” says', 'also where the job before took all');
  assert.equal(hint(null, 'reference'), 'all of these');
});

test('a job took all labels by choice only where its preset’s number would have been there', () => {
  const [few, many] = [set({ a: 600, b: 600 }, 0), set({ a: 625, b: 625 }, 0)];
  const chose = (preset, ...given) => choseAll({ preset, labelled: null }, ...given);
  assert.deepEqual([chose('reference', few), chose('reference', many), chose('reference', undefined)], [false, true, false], '960, 1,000 and nobody knows how many');
  assert.deepEqual([chose('quick', few), chose('quick', undefined)], [true, true]);
  assert.equal(choseAll({ preset: 'reference', labelled: null, validation: 0.1 }, few), true, 'fewer validate');
  assert.deepEqual([choseAll({ preset: 'quick', labelled: 40 }, few), choseAll({}, few)], [false, false]);
});

/// The form, filled in with these.
const form = (values = {}) => {
  const texts = { dataset: 'id', algorithm: 'mixmatch', preset: 'quick', fit: '', labelled: '', seed: '1', more: '', ...values };
  return { ...Object.fromEntries(Object.entries(texts).map(([name, value]) => [name, { input: { value } }])), baseline: { input: { checked: false } } };
};

test('a job that took all labels takes all of them again, whatever its preset would', () => {
  const labelled = (text, tookAll) => request(form({ preset: 'reference', labelled: text }), tookAll).labelled;
  assert.deepEqual([labelled('', true), labelled('', false), labelled('40', true)], [null, undefined, 40]);
  assert.equal(request(form({ more: '{"labelled": 9}' }), true).labelled, 9, 'another number may be said where it is left open');
});

test('what the free field says again is complained of, and what the form leaves open may be said there', () => {
  const refused = (more, words) => assert.throws(() => request(form({ labelled: '40', more }), false), words, more);
  refused('{"dataset": "other"}', /^Error: dataset has a field of its own above/);
  refused('{"labelled": 9, "k": 1, "seed": 2}', /^Error: labelled and seed have fields of their own above/);
  const more = '{"labelled": null, "fit": "face", "toString": 1}';
  assert.deepEqual(request(form({ more }), false), { dataset: 'id', algorithm: 'mixmatch', preset: 'quick', seed: 1, ...JSON.parse(more) });
});

test('a number of labels is read as it was meant, or asked about', () => {
  const large = set({ a: 8000, b: 9000 }, 0);
  const small = set({ a: 900, b: 900 }, 0);
  const lists = { '': [], 40: [40], '20, 40, 100': [20, 40, 100], '20,40,100': [20, 40, 100], '100,250,1000': [100, 250, 1000], '100, 250': [100, 250], '12, 500': [12, 500], ' 12500 ': [12500] };
  for (const [text, numbers] of Object.entries(lists)) assert.deepEqual(readLabels(text, large), { numbers, problem: null }, text);
  // A hundred thousand they are not: so many labels there are not.
  assert.deepEqual(readLabels('100,250', large), { numbers: [100, 250], problem: null });
  assert.deepEqual(readLabels('12,500', small), { numbers: [12, 500], problem: null });
  assert.match(readLabels('12,500', large).problem, /^“12,500” may be one number or 2: write 12500, or 12, 500 with a space/);
  assert.match(readLabels('100, 12,500', large).problem, /^“12,500” may be/);
  for (const text of ['1,000', '12,050']) assert.match(readLabels(text, small).problem, new RegExp(`write ${text.replace(',', '')}; several`), text);
  for (const text of ['12.000', '12 000', '12’000', '12_000', '40, 12.000']) assert.match(readLabels(text, small).problem, /write 12000; several/, text);
  assert.match(readLabels('1.5', small).problem, /digits alone/);
  assert.match(readLabels('20 40 100', small).problem, /as in 20, 40, 100$/);
  for (const text of ['forty', '-5', '9007199254740993']) assert.deepEqual(readLabels(text, small), { numbers: [text], problem: null }, 'the server’s to refuse');
});
