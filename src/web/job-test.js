// What the chosen weights reached on the test split.

import { h } from './dom.js';
import { table, tiles } from './table.js';
import { percent, score, number, count } from './format.js';

const interval = ([low, high]) => `${percent(low)} to ${percent(high)}`;

export function testResult(test, classes) {
  return h('section', null,
    h('h2', null, 'Test'),
    h('p', { class: 'muted' }, `${count(test.images)} images, seen once, with the weights of epoch ${test.best_epoch}.`),
    tiles([
      { name: 'Accuracy', value: percent(test.accuracy), note: `${interval(test.accuracy_interval)} at 95 %` },
      { name: `F1 of ${test.positive_class}`, value: score(test.f1) },
      { name: 'F1 macro', value: score(test.f1_macro) },
      { name: 'Balanced accuracy', value: percent(test.balanced_accuracy) },
      { name: 'Cross-entropy', value: number(test.loss), note: 'nats' },
    ]),
    h('div', { class: 'columns' }, confusion(test.confusion, classes), test.groups.length > 0 && groups(test.groups)));
}

function confusion(matrix, classes) {
  const name = (i) => classes[i] ?? `class ${i + 1}`;
  return h('div', null, h('h3', null, 'Confusion'),
    h('div', { class: 'table-wrap' }, h('table', { class: 'confusion' },
      h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'true ╲ answered'), matrix.map((_, i) => h('th', { scope: 'col', class: 'number' }, name(i))))),
      h('tbody', null, matrix.map((row, i) => {
        const all = row.reduce((sum, n) => sum + n, 0) || 1;
        return h('tr', null, h('th', { scope: 'row' }, name(i)), row.map((n, j) => h('td', {
          class: `number ${i === j ? 'right' : 'wrong'}`, style: `--share:${((100 * n) / all).toFixed(1)}%`,
        }, count(n), h('span', { class: 'share' }, percent(n / all)))));
      })))));
}

function groups(rows) {
  return h('div', null, h('h3', null, 'Accuracy by group'), table([
    { head: 'Column', cell: (row) => row.attribute },
    { head: 'Value', cell: (row) => row.value },
    { head: 'Images', number: true, cell: (row) => count(row.images) },
    { head: 'Accuracy', number: true, cell: (row) => percent(row.accuracy) },
    { head: '95 % interval', number: true, cell: (row) => interval(row.interval) },
  ], rows, { caption: 'Accuracy by group' }));
}
