// Tables and bars of data sets, shared by the overview and their own pages.

import { h } from './dom.js';
import { table } from './table.js';
import { count, plural, when } from './format.js';

/// Classes that a list names; a data set may have a thousand.
const MOST_CLASSES = 8;

/// Those of them that are named, and how many are left.
export function fewClasses(classes) {
  const left = classes.length - MOST_CLASSES;
  return left > 1 ? { shown: classes.slice(0, MOST_CLASSES), left } : { shown: classes, left: 0 };
}

export const total = (counts) => Object.values(counts).reduce((sum, n) => sum + n, 0);

export function datasetTable(sets) {
  return table([
    { head: 'Data set', cell: (set) => h('a', { href: `#/datasets/${encodeURIComponent(set.id)}` }, set.name) },
    { head: 'Task', cell: (set) => set.task },
    { head: 'Labelled for training', cell: (set) => classCounts(set, set.counts.train) },
    { head: 'Unlabelled', number: true, cell: (set) => count(set.counts.unlabelled) },
    { head: 'Test', number: true, cell: (set) => count(total(set.counts.test)) },
    { head: 'Import', cell: findings },
    { head: 'Imported', number: true, cell: (set) => when(set.created_at) },
  ], sets, { caption: 'Data sets' });
}

function classCounts(set, counts) {
  const { shown, left } = fewClasses(set.classes);
  return [...shown.map((name, i) => [i > 0 && h('span', { class: 'dot' }, ' · '), h('span', { class: 'nowrap' }, `${name} `, h('span', { class: 'tabular' }, count(counts[name] ?? 0)))]),
    left > 0 && ` and ${count(left)} more classes`];
}

function findings(set) {
  const { rejected_rows: bad, warnings } = set.report;
  if (!bad && !warnings.length) return h('span', { class: 'muted' }, 'clean');
  return [warnings.length > 0 && plural(warnings.length, 'warning'), warnings.length > 0 && bad > 0 && ', ', bad > 0 && plural(bad, 'bad row')];
}

/// Counts per class and split, with a bar for the share.
export function countsTable(set) {
  const most = Math.max(1, ...Object.values(set.counts.train), ...Object.values(set.counts.test), set.counts.unlabelled);
  const rows = set.classes.map((name) => ({ name, train: set.counts.train[name] ?? 0, test: set.counts.test[name] ?? 0 }));
  rows.push({ name: 'unlabelled', train: set.counts.unlabelled, test: null, plain: true });
  return table([
    { head: 'Class', cell: (row) => (row.plain ? h('span', { class: 'muted' }, row.name) : row.name) },
    { head: 'Training', cell: (row) => bar(row.train, most) },
    { head: 'Test', cell: (row) => (row.test == null ? '–' : bar(row.test, most)) },
  ], rows, { caption: 'Images per class and split' });
}

function bar(value, most) {
  return h('span', { class: 'count-bar' }, h('span', { class: 'bar-fill', style: `width:${(60 * value) / most}%` }), h('span', { class: 'tabular' }, count(value)));
}
