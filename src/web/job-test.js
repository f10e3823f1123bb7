// What the chosen weights reached on the test split.

import { h } from './dom.js';
import { ofTest, range as interval, trust } from './accuracy.js';
import { table, tiles } from './table.js';
import { percent, score, number, count } from './format.js';

// As train::event::SMALLEST_GROUP.
const SMALLEST = 30;

/// Classes whose matrix can still be looked at; a thousand are a million cells, over which a browser stands still.
const MOST_CLASSES = 40;

/// Of more classes, so many pairs that are taken for each other.
const MOST_PAIRS = 30;

export function testResult(test, classes) {
  const byClass = known(test);
  const positive = byClass.find((row) => row.class === test.positive_class);
  const many = test.confusion.length > 2;
  const area = many ? test.roc_auc_macro : test.roc_auc;
  return h('section', null,
    h('h2', null, 'Test'),
    h('p', { class: 'muted' }, `${count(test.images)} images, seen once, with the weights of epoch ${test.best_epoch}.`),
    tiles([
      { name: 'Accuracy', value: percent(test.accuracy), note: trust(ofTest(test)) },
      { name: `F1 of ${test.positive_class}`, value: score(positive?.f1 === null ? null : test.f1) },
      { name: 'F1 macro', value: score(test.f1_macro) },
      { name: 'Balanced accuracy', value: percent(test.balanced_accuracy) },
      area != null && { name: 'ROC-AUC', value: score(area), note: many ? 'mean of one against the rest' : `of ${test.positive_class}` },
      { name: 'Calibration error', value: percent(test.calibration_error), note: `${percent(test.calibration_error_raw)} without temperature` },
      { name: 'Cross-entropy', value: number(test.loss), note: 'nats' },
    ]),
    h('div', { class: 'columns' },
      h('div', null, confusion(test.confusion, classes), byClass.length > 0 && perClass(byClass)),
      h('div', null, test.abstention?.length > 0 && abstention(test), test.groups.length > 0 && groups(test))));
}

/// What “Abstain below” costs and gains, as the page Predict has it.
function abstention({ abstention: rows, faceless }) {
  return h('div', null, h('h3', null, 'If it may abstain'),
    h('p', { class: 'hint' }, 'What is left of these images where answers below a threshold are withheld',
      faceless > 0 && `, and the ${count(faceless)} to images in which no face was found`, '. Predict has it as “Abstain below”.'),
    table([
      { head: 'Abstain below', cell: (row) => percent(row.threshold, 0) },
      { head: 'Answered', number: true, cell: (row) => percent(row.coverage) },
      { head: 'Accuracy of the answered', number: true, cell: (row) => percent(row.accuracy) },
    ], rows, { caption: 'If it may abstain' }));
}

/// The figures of each class without those that are 0 for nothing: recall and F1 where it has no test images, precision where no answer is of it.
function known({ classes = [], confusion: matrix }) {
  const isAnswered = (i) => matrix.some((row) => row[i] > 0);
  return classes.map((row, i) => ({ ...row, precision: isAnswered(i) ? row.precision : null, ...(row.images === 0 && { recall: null, f1: null }) }));
}

function perClass(rows) {
  return h('div', null, h('h3', null, 'Per class'), table([
    { head: 'Class', cell: (row) => row.class },
    { head: 'Images', number: true, cell: (row) => count(row.images) },
    { head: 'Precision', number: true, cell: (row) => percent(row.precision) },
    { head: 'Recall', number: true, cell: (row) => (row.recall === null ? '–' : h('span', { title: `${interval(row.recall_interval)} at 95 %` }, percent(row.recall))) },
    { head: 'F1', number: true, cell: (row) => score(row.f1) },
  ], rows, { caption: 'Precision, recall and F1 per class' }));
}

function confusion(matrix, classes) {
  const name = (i) => classes[i] ?? `class ${i + 1}`;
  if (matrix.length > MOST_CLASSES) return pairs(matrix, name);
  return h('div', null, h('h3', null, 'Confusion'),
    h('div', { class: 'table-wrap', tabindex: 0, role: 'region', 'aria-label': 'Confusion' }, h('table', { class: 'confusion' },
      h('caption', { class: 'visually-hidden' }, 'Confusion: the images of each class by what was answered'),
      h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'true ╲ answered'), matrix.map((_, i) => h('th', { scope: 'col', class: 'number' }, name(i))))),
      h('tbody', null, matrix.map((row, i) => {
        const all = row.reduce((sum, n) => sum + n, 0) || 1;
        return h('tr', null, h('th', { scope: 'row' }, name(i)), row.map((n, j) => h('td', {
          class: `number ${i === j ? 'right' : 'wrong'}`, style: `--share:${((100 * n) / all).toFixed(1)}%`,
        }, count(n), h('span', { class: 'share' }, percent(n / all)))));
      })))));
}

/// What is taken for what, the most frequent first.
function pairs(matrix, name) {
  const wrong = matrix.flatMap((row, i) => {
    const of = row.reduce((sum, n) => sum + n, 0);
    return row.flatMap((n, j) => (n > 0 && i !== j ? [{ is: name(i), answered: name(j), n, of }] : []));
  });
  const most = wrong.sort((a, b) => b.n - a.n).slice(0, MOST_PAIRS);
  return h('div', null, h('h3', null, 'Confusion'),
    h('p', { class: 'hint' }, `Of ${count(matrix.length)} classes the ${count(most.length)} pairs that are confused most; all of them are in the model's card as JSON.`),
    table([
      { head: 'True class', cell: (pair) => pair.is },
      { head: 'Answered', cell: (pair) => pair.answered },
      { head: 'Images', number: true, cell: (pair) => count(pair.n) },
      { head: 'Of the class', number: true, cell: (pair) => percent(pair.n / pair.of) },
    ], most, { caption: 'Classes that are confused most' }));
}

function groups({ groups: rows, group_gaps: gaps = [], banded_columns: banded = [], skipped_columns: skipped = [] }) {
  const notes = [
    banded.length > 0 && `Cut into fifths of the images, or near them where many have one number: ${banded.join(', ')}.`,
    skipped.length > 0 && `No groups: ${skipped.join(', ')}.`,
    rows.some((row) => row.images < SMALLEST) && `Groups of fewer than ${SMALLEST} images are never called the lowest or highest.`,
  ].filter(Boolean);
  return h('div', null, h('h3', null, 'Accuracy by group'), gaps.map((gap) => gapLine(gap, rows)), table([
    { head: 'Column', cell: (row) => row.attribute },
    { head: 'Value', cell: (row) => row.value },
    { head: 'Images', number: true, cell: (row) => count(row.images) },
    { head: 'Accuracy', number: true, cell: (row) => percent(row.accuracy) },
    { head: '95 % interval', number: true, cell: (row) => interval(row.interval) },
    { head: 'F1', number: true, cell: (row) => score(row.f1) },
  ], rows, { caption: 'Accuracy by group' }),
  notes.length > 0 && h('p', { class: 'hint' }, notes.join(' ')));
}

/// The lowest group of a column, and how far it is from the highest; `rows` are the groups of all columns. Names may be written from
/// right to left, the line is not.
function gapLine(gap, rows) {
  const chance = gap.intervals_overlap ? '; may be chance' : '';
  const column = h('strong', null, h('bdi', null, gap.attribute));
  if (gap.gap <= 0) {
    const isSmall = (row) => row.attribute === gap.attribute && row.images < SMALLEST;
    const of = rows.some(isSmall) ? ` of ${SMALLEST} images and more` : '';
    return h('p', { class: 'anywhere' }, column, `: no difference between its groups${of}, ${percent(gap.worst_accuracy)} in each.`);
  }
  return h('p', { class: 'anywhere' }, column,
    ': lowest ', h('bdi', null, gap.worst), ` ${percent(gap.worst_accuracy)}, highest `, h('bdi', null, gap.best), ` ${percent(gap.best_accuracy)}, gap ${percent(gap.gap)}${chance}.`);
}
