// One data set: what is in it, and what its import found.

import { get, remove, seg } from './api.js';
import { h, put } from './dom.js';
import { go } from './router.js';
import { action } from './problem.js';
import { table } from './table.js';
import { countsTable, total } from './dataset-parts.js';
import { pictures } from './dataset-pictures.js';
import { count, plural, when } from './format.js';
import { command, curl } from './shell.js';

const FIRST = 20;
const SHOWN = 500;

export async function dataset({ params, signal, title }) {
  const path = `/datasets/${seg(params.id)}`;
  const set = await get(path, signal);
  title(set.name);
  const place = h('div');
  const images = total(set.counts.train) + total(set.counts.test) + set.counts.unlabelled;
  return h('div', null,
    h('p', { class: 'crumbs' }, h('a', { href: '#/datasets' }, 'Data sets')),
    h('div', { class: 'title' }, h('h1', null, set.name),
      h('div', { class: 'actions' },
        h('a', { class: 'button primary', href: `#/jobs/new?dataset=${seg(set.name)}` }, 'Train on it'),
        h('a', { class: 'button', href: '#/label' }, 'Label more'),
        action('Delete', async () => { await remove(path); go('#/datasets'); }, { place, confirm: 'Delete for good?', kind: 'danger', said: 'Deleted' }))),
    h('p', { class: 'muted anywhere' }, `Task ${set.task} · ${plural(images, 'image')} · imported ${when(set.created_at)}`),
    place,
    h('section', null, h('h2', null, 'Images'), countsTable(set), set.counts.picked > 0 && h('p', { class: 'muted' }, `${plural(set.counts.picked, 'training label')} picked, not drawn: for training, not for validation.`)),
    h('section', null, h('h2', null, 'Pictures'), pictures(path, signal)),
    h('section', null, h('h2', null, 'Import report'), report(set, path, signal)),
    h('section', null, h('h2', null, 'Train with curl'), command(train(set.name))));
}

/// With all labels that there are to train on: whoever has labelled them wants them learned from.
const train = (name) => curl('/jobs', "-H 'content-type: application/json'", `-d '${JSON.stringify({ dataset: name, algorithm: 'mixmatch', seed: 1 })}'`);

function report(set, path, signal) {
  const { warnings, rejected, rejected_rows: bad } = set.report;
  if (!warnings.length && !bad) return h('p', { class: 'muted' }, 'Nothing to complain of: every row has its image, and no doubt was found.');
  return [
    warnings.map((warning) => h('div', { class: 'notice warn' }, h('p', null, h('code', null, warning.code), ' ', warning.detail),
      warning.examples?.length > 0 && h('ul', null, warning.examples.map((example) => h('li', null, example))))),
    bad > 0 && badRows(bad, rejected, path, signal),
  ];
}

function badRows(bad, first, path, signal) {
  const place = h('div', null, rowsTable(first.slice(0, FIRST)));
  const trouble = h('div');
  const more = bad > FIRST && action(`Show all ${count(bad)}`, async () => {
    const { rejected } = await get(`${path}/report`, signal);
    put(place, rowsTable(rejected.slice(0, SHOWN)), rejected.length > SHOWN && h('p', { class: 'muted' }, `The first ${SHOWN}; all of them: GET ${path}/report`));
    more.remove();
  }, { place: trouble });
  return h('div', null, h('h3', null, `${plural(bad, 'row')} left out`), place, trouble, more);
}

function rowsTable(rows) {
  return table([
    { head: 'Sheet', cell: (row) => row.sheet },
    { head: 'Row', number: true, cell: (row) => count(row.row) },
    { head: 'Image', cell: (row) => h('span', { class: 'break' }, row.image || '–') },
    { head: 'Reason', cell: (row) => row.detail },
    { head: 'Code', cell: (row) => h('code', null, row.code) },
  ], rows, { caption: 'Rows that were left out' });
}
