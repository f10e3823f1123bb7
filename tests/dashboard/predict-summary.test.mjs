// src/web/predict-summary.js: what many images came to.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { inWords, sheet, tally } from '../../src/web/predict-summary.js';
import { parse } from '../../src/web/csv.js';

const answer = (label, probability, more = {}) => ({ name: `${label}.png`, result: { label, probability, probabilities: { [label]: probability, other: 1 - probability }, ...more } });

test('a class may be called as what is none', () => {
  const images = [answer('undecided', 0.9), answer('undecided', 0.4), answer('unanswered', 0.9), { name: 'x.png', error: 'gone' }, { name: 'y.png' }];
  assert.equal(inWords(tally(images, 0.5)), 'undecided 1 · unanswered 1 · undecided 1 · without an answer 1 · waiting 1');
});

test('without the face that a model looks for an image is undecided, however sure the answer is', () => {
  assert.deepEqual(tally([answer('a', 0.9, { face: null }), answer('a', 0.9, { face: {} })], 0).map(({ name, n }) => [name, n]), [['a', 1], ['undecided', 1]]);
});

test('of many classes the most frequent are named', () => {
  const images = Array.from({ length: 12 }, (_, at) => Array.from({ length: at + 1 }, () => answer(`c${at}`, 0.9))).flat();
  assert.equal(inWords(tally(images, 0.95)), 'undecided 78');
  assert.equal(inWords(tally(images, 0.5)), 'c11 12 · c10 11 · c9 10 · c8 9 · c7 8 · c6 7 · c5 6 · c4 5 · 4 more classes 10');
});

test('a sheet has a row for each image and a column for each class, also for one called as another column', () => {
  const images = [answer('label', 0.9), { name: 'a, "b".png', error: 'gone' }, { name: 'waits.png' }, { name: 'sent.png', sent: true }];
  const rows = parse(sheet(images, 0.95));
  assert.deepEqual(rows.map((row) => [row.file, row.label, row['label (class)'], row.other, row.abstained, row.error]), [
    ['label.png', 'label', '0.9', String(1 - 0.9), 'true', ''], ['a, "b".png', '', '', '', '', 'gone'], ['waits.png', '', '', '', '', 'not asked yet'],
    ['sent.png', '', '', '', '', 'not answered yet'],
  ]);
});

test('what a spreadsheet would run is a text', () => {
  const found = (name) => ({ name, result: { label: '=x', probability: 0.5, probabilities: { '=x': 0.5, b: -0.5 }, abstained: false } });
  const text = sheet([found("=cmd|' /C calc'!A0.png"), found('+1.png'), found('@SUM(A1).png'), found('a=1.png')], 0);
  assert.equal(text.split('\r\n')[0], "file,label,probability,'=x,b,abstained,error");
  const rows = parse(text);
  assert.deepEqual(rows.map(({ file, label }) => [file, label]), [["'=cmd|' /C calc'!A0.png", "'=x"], ["'+1.png", "'=x"], ["'@SUM(A1).png", "'=x"], ['a=1.png', "'=x"]]);
  assert.equal(rows[0].b, '-0.5', 'a number is one');
});
