// Versions of a model on the same test images: their own figures may each be of others, and say little beside each other.

import { all, getSlow, seg } from './api.js';
import { h, put } from './dom.js';
import { action, problemBox } from './problem.js';
import { field, select } from './form.js';
import { table } from './table.js';
import { testAccuracy } from './accuracy.js';
import { CHAMPION } from './model-parts.js';
import { total } from './dataset-parts.js';
import { ALGORITHMS, count, plural, score } from './format.js';

/// Versions that are asked at once: the newest, and the champion.
const MOST = 8;

/// What stands in the page's fold, made when that is opened.
export async function sameImages(place, model, signal) {
  // What was measured stays when the fold is closed and opened again; what failed is asked for anew.
  if ('ready' in place.dataset || 'busy' in place.dataset) return;
  place.dataset.busy = '';
  put(place, h('p', { class: 'muted' }, 'Looking for data sets …'));
  try {
    const sets = (await all('/datasets', signal)).filter((set) => total(set.counts.test) > 0);
    if (sets.length) place.dataset.ready = '';
    put(place, ...(sets.length ? asking(model, sets, signal) : [h('p', { class: 'muted' }, 'No data set has a test sheet.')]));
  } catch (error) {
    if (!signal.aborted) put(place, problemBox(error));
  } finally {
    delete place.dataset.busy;
  }
}

function asking(model, sets, signal) {
  const set = field('Test images of', select(sets.map(({ id, name, counts }) => [id, `${name} (${plural(total(counts.test), 'image')})`]), sets[0].id));
  const [trouble, found] = [h('div'), h('div', { 'aria-live': 'polite' })];
  const button = action('Test these versions', () => ask(model, set.input.value, found, signal), { place: trouble, of: `of ${model.name}` });
  return [
    h('p', { class: 'hint' }, `The ${asked(model).length < model.versions.length ? `newest ${MOST} versions and the champion` : 'versions'} are asked for the same test images, one after the other. It takes seconds for small networks. Seen in training are images that a version learned from, with a label or without, and those that chose its epoch: its figures flatter it by those.`),
    set.node, h('div', { class: 'actions' }, button), trouble, found,
  ];
}

function asked(model) {
  return model.versions.filter(({ version }, at) => at < MOST || version === model.aliases[CHAMPION]);
}

async function ask(model, dataset, place, signal) {
  const rows = asked(model).map((version) => ({ version, answer: null, error: null }));
  for (const row of rows) {
    put(place, results(model, rows));
    const { version } = row.version;
    try {
      row.answer = await getSlow(`/models/${seg(model.name)}/versions/${version}/test?dataset=${seg(dataset)}`, signal);
    } catch (error) {
      if (signal.aborted) return;
      row.error = error;
    }
  }
  put(place, results(model, rows));
}

function results(model, rows) {
  const met = ({ answer: { seen_in_training: seen } }) => (seen === null ? 'unknown: its data set was deleted' : seen ? h('strong', null, count(seen)) : 'none');
  return table([
    { head: 'Version', cell: ({ version: { version } }) => [`version ${version}`, model.aliases[CHAMPION] === version && [' ', h('span', { class: 'badge succeeded' }, CHAMPION)]] },
    { head: 'Trained by', cell: ({ version: { algorithm } }) => ALGORITHMS[algorithm] ?? 'unknown' },
    { head: 'Accuracy', number: true, cell: ({ answer, error }) => (answer ? testAccuracy(answer.test) : h('span', { class: 'muted' }, error ? error.message : '…')) },
    { head: 'F1 macro', number: true, cell: ({ answer }) => answer && score(answer.test.f1_macro) },
    { head: 'Of these images seen in training', number: true, cell: (row) => row.answer && met(row) },
  ], rows, { caption: `Versions of ${model.name} on the same test images` });
}
