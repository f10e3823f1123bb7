// What runs, what came out, what there is.

import { get, all } from './api.js';
import { h, put, changing } from './dom.js';
import { every } from './router.js';
import { table } from './table.js';
import { OVER, jobCard, jobLink, badge, testAccuracy } from './job-parts.js';
import { percent, score, when, plural, duration, elapsed } from './format.js';
import { allModels, modelTable } from './model-parts.js';
import { datasetTable } from './dataset-parts.js';
import { curlImport, curlTrain, curlPredict, command } from './shell.js';

const LATEST = 8;
const SETS = 50;

export async function overview({ signal }) {
  const server = h('p', { class: 'muted server' });
  const places = { active: h('div'), results: h('div'), models: h('div'), datasets: h('div') };
  const sections = Object.fromEntries(Object.entries(places).map(([name, place]) => [name, changing(place)]));
  const list = activeList();
  const root = h('div');
  const shape = changing(root);

  async function refresh(signal) {
    const [running, queued, done, models, sets, ready] = await Promise.all([
      all('/jobs?state=running', signal), all('/jobs?state=queued', signal), latest(signal),
      allModels(signal), get(`/datasets?limit=${SETS}`, signal), get('/readyz', signal).catch((error) => ({ trouble: error })),
    ]);
    // Newest first from the server; the queue is worked from the other end.
    const active = [...running.reverse(), ...queued.reverse()];
    const nothing = !active.length && !done.length && !models.length && !sets.items.length;
    shape(nothing, () => (nothing ? firstSteps() : page()));
    put(server, ready.trouble ? notReady(ready.trouble) : describe(ready));
    list.update(active);
    sections.active(active.length > 0, () => (active.length ? list.node : h('p', { class: 'muted' }, 'Nothing is running.')));
    sections.results(done, () => results(done));
    sections.models(models, () => (models.length ? modelTable(models) : none('No model is published yet: the first successful job publishes one.')));
    sections.datasets(sets, () => (sets.items.length ? [datasetTable(sets.items), sets.next_cursor && moreSets()] : none('No data set yet.')));
  }

  function page() {
    return [
      h('div', { class: 'title' }, h('h1', null, 'Overview'), h('a', { class: 'button primary', href: '#/jobs/new' }, 'New job')),
      server,
      section('Running and queued', places.active),
      section('Latest results', places.results, h('a', { href: '#/jobs' }, 'All jobs')),
      section('Models', places.models, h('a', { href: '#/predict' }, 'Predict')),
      section('Data sets', places.datasets, h('div', { class: 'actions' }, h('a', { href: '#/label' }, 'Label images'), h('a', { href: '#/datasets' }, 'Import one'))),
    ];
  }

  await refresh(signal);
  every(2000, signal, refresh);
  return root;
}

/// Those that are over, newest first. They are asked for by state: behind a long queue none is among the first jobs of all.
async function latest(signal) {
  const lists = await Promise.all(OVER.map((state) => get(`/jobs?state=${state}&limit=${LATEST}`, signal)));
  // Ids begin with the time.
  return lists.flatMap((list) => list.items).sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, LATEST);
}

const moreSets = () => h('p', { class: 'hint' }, `The newest ${SETS}. `, h('a', { href: '#/datasets' }, 'All data sets'));

const none = (text) => h('p', { class: 'muted' }, text);

function section(title, body, more) {
  return h('section', null, h('div', { class: 'section-head' }, h('h2', null, title), more), body);
}

/// Cards keyed by job, so that progress moves without rebuilding anything.
function activeList() {
  const node = h('ul', { class: 'cards' });
  const cards = new Map();
  function update(jobs) {
    const wanted = new Set(jobs.map((job) => job.id));
    for (const [id, card] of cards) {
      if (wanted.has(id)) continue;
      card.node.remove();
      cards.delete(id);
    }
    jobs.forEach((job, at) => {
      if (!cards.has(job.id)) cards.set(job.id, jobCard(job));
      const card = cards.get(job.id);
      card.update(job);
      if (node.children[at] !== card.node) node.insertBefore(card.node, node.children[at] ?? null);
    });
  }
  return { node, update };
}

function results(jobs) {
  if (!jobs.length) return none('No job has finished yet.');
  return table([
    { head: 'Job', cell: jobLink },
    { head: 'Data set', cell: (job) => h('span', { class: 'nowrap' }, job.dataset.name) },
    { head: 'State', cell: badge },
    { head: 'Validation accuracy', number: true, cell: (job) => percent(job.best?.validation_accuracy) },
    { head: 'Validation F1 macro', number: true, cell: (job) => score(job.best?.validation_f1_macro) },
    { head: 'Test accuracy', number: true, cell: (job) => testAccuracy(job.test) },
    { head: 'Test F1 macro', number: true, cell: (job) => score(job.test?.f1_macro) },
    { head: 'Took', number: true, cell: (job) => duration(elapsed(job)) },
    { head: 'Finished', number: true, cell: (job) => when(job.finished_at) },
  ], jobs, { caption: 'Latest finished jobs' });
}

function describe(ready) {
  const { predict, slots, busy_slots: busy } = ready;
  const devices = [...new Set(slots.map((slot) => slot.device))].join(', ');
  const int8 = predict.int8.length > 0 ? ` (${plural(predict.int8.length, 'model')} in int8)` : '';
  return `Predicts on ${predict.device} in ${predict.precision}${int8} · ${plural(slots.length, 'training slot')} (${devices}), ${busy} busy`;
}

/// A server that is up and not ready says why; one that does not answer is told of at the top of the page.
function notReady({ status, message }) {
  return status === 503 && h('strong', null, `Not ready: ${message}`);
}

function firstSteps() {
  const step = (title, text, example) => h('li', null, h('h2', null, title), h('p', null, text), command(example));
  return [
    h('h1', null, 'Welcome to mixmatch'),
    h('p', { class: 'lead' }, 'Train a classifier from a few labelled and many unlabelled images, and serve it. There is nothing here yet; three steps lead to a prediction.'),
    h('ol', { class: 'first-steps' },
      step('Import a data set', ['A ZIP of images, and a CSV or XLSX sheet with the image’s name and its label; an empty label means unlabelled. Here, or in the ', h('a', { href: '#/datasets' }, 'upload form'), '. No labels yet? ', h('a', { href: '#/label' }, 'Label images'), ' first.'], curlImport()),
      step('Train', ['MixMatch with as many of the labels as “labelled” says; everything else is used without its label. Here, or in the ', h('a', { href: '#/jobs/new' }, 'form'), '.'], curlTrain()),
      step('Predict', 'The model is published under the data set’s task when the job has succeeded.', curlPredict())),
  ];
}
