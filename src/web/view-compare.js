// Several jobs over one another, and what sets them apart.

import { get, seg } from './api.js';
import { Epochs } from './epochs.js';
import { h, put, changing } from './dom.js';
import { every, go } from './router.js';
import { lineChart } from './chart.js';
import { field, select } from './form.js';
import { problemBox } from './problem.js';
import { table } from './table.js';
import { testAccuracy, validationAccuracy } from './accuracy.js';
import { doubt, notice, sources } from './compare-images.js';
import { finished, badge, hyperParameter } from './job-parts.js';
import { unmark } from './view-jobs.js';
import { algorithm, labels, share, score, number, rate, duration, elapsed, shortId, exactly, inexact } from './format.js';

const METRICS = {
  validation_accuracy: ['Validation accuracy', share, [0, 1]],
  validation_f1: ['Validation F1', (value, axis) => (axis ? number(value) : score(value)), [0, 1]],
  validation_f1_macro: ['Validation F1 macro', (value, axis) => (axis ? number(value) : score(value)), [0, 1]],
  validation_loss: ['Validation loss', number],
  train_accuracy: ['Training accuracy', share, [0, 1]],
  loss: ['Loss', number],
};

/// Lines that one can still tell apart, more or less.
const MOST = 12;

export async function compare({ query, signal }) {
  const asked = [...new Set((query.get('ids') ?? '').split(',').filter(Boolean))];
  const ids = asked.slice(0, MOST);
  if (ids.length === 0) {
    return h('div', null, h('h1', null, 'Compare'), h('p', null, 'Mark two or more in the ', h('a', { href: '#/jobs' }, 'list of jobs'), '.'));
  }
  let runs = [];
  const missing = h('div');
  const drawMissing = changing(missing);
  const images = h('div');
  const drawNotice = changing(images);
  const leftOut = h('p', { class: 'hint' });
  const place = h('div');
  const tablePlace = h('div');
  const drawTables = changing(tablePlace);
  const metric = field('Figure', select(Object.entries(METRICS).map(([name, [title]]) => [name, title]), 'validation_accuracy'));
  const axis = field('Across', select([['epoch', 'epoch'], ['step', 'step']], 'epoch'));
  let chart;

  async function load(by, { over = false } = {}) {
    const loaded = await Promise.all(ids.map(async (id) => {
      const before = runs.find((run) => run.job.id === id);
      if (before && finished(before.job) && !over) return before;
      try {
        return await read(`/jobs/${seg(id)}`, before, by);
      } catch (error) {
        if (error.status !== 404) throw error;
        unmark(id);
        return { id, gone: error };
      }
    }));
    runs = loaded.filter((run) => !run.gone);
    const gone = loaded.filter((run) => run.gone);
    // An alert that is built anew is read out anew.
    drawMissing(gone.map(({ id }) => id), () => gone.map((run) => problemBox(run.gone)));
    if (chart) draw();
  }

  const name = ({ job }) => `${algorithm(job)}, ${labels(job)}, seed ${exactly(job.config.seed)} (${shortId(job.id)})`;

  function rebuild() {
    const [title, format, bounds] = METRICS[metric.input.value];
    chart = lineChart({ title, format, bounds, unit: axis.input.value });
    put(place, chart.node);
    draw();
  }

  function draw() {
    const across = axis.input.value;
    const lines = runs.map((run, i) => ({ label: name(run), colour: i, dash: run.job.algorithm === 'supervised', points: run.epochs.rows().map((row) => [row[across], row[metric.input.value]]).filter(([, y]) => y != null) }));
    chart.update(lines, { xMax: Math.max(1, ...runs.map(({ job }) => (across === 'step' ? job.steps : job.epochs))) });
    put(leftOut, [...new Set(runs.map(({ epochs }) => epochs.leftOut).filter(Boolean))].map((words) => `Of a long run: ${words} `));
    drawTables(runs.map(({ job }) => job), () => [results(runs, asked), differences(runs)]);
    const jobs = runs.map(({ job }) => job);
    drawNotice(doubt(jobs), () => notice(jobs));
  }

  metric.input.addEventListener('change', rebuild);
  axis.input.addEventListener('change', rebuild);
  await load(signal);
  rebuild();
  every(3000, signal, async (own) => {
    if (runs.some(({ job }) => !finished(job))) await load(own);
  });
  // One that is over may be retried from elsewhere.
  every(30_000, signal, (own) => load(own, { over: true }));
  return h('div', null,
    h('h1', null, 'Compare'), missing,
    asked.length > MOST && h('p', { class: 'notice warn' }, `${asked.length} jobs are marked; these are the first ${MOST}.`),
    images, h('div', { class: 'inline-fields' }, metric.node, axis.node), place, leftOut, tablePlace);
}

/// A job and its epochs: of those that were read before, what has come since, unless another attempt has begun.
async function read(path, before, signal) {
  const job = await get(path, signal);
  const same = before?.job.attempt === job.attempt;
  if (same && finished(before.job) && finished(job)) return { job, epochs: before.epochs };
  const epochs = same ? before.epochs : new Epochs(job.epochs);
  await epochs.read(path, signal);
  return { job, epochs };
}

function results(runs, ids) {
  return h('section', null, h('h2', null, 'Results'), table([
    { head: 'Job', cell: ({ job }) => h('div', null, h('a', { href: `#/jobs/${job.id}` }, `${algorithm(job)} (${shortId(job.id)})`), h('div', { class: 'hint nowrap' }, `${labels(job)}, seed ${exactly(job.config.seed)}`)) },
    { head: 'Data set', cell: ({ job }) => h('span', { class: 'nowrap' }, job.dataset.name) },
    { head: 'State', cell: ({ job }) => badge(job) },
    { head: 'Best validation', number: true, cell: ({ job }) => (job.best ? h('div', null, validationAccuracy(job.best), h('div', { class: 'trust' }, `epoch ${job.best.epoch}`)) : '–') },
    { head: 'Test accuracy', number: true, cell: ({ job }) => testAccuracy(job.test) },
    { head: 'Test F1 macro', number: true, cell: ({ job }) => score(job.test?.f1_macro) },
    { head: 'Rate', number: true, cell: ({ job }) => rate(job.last?.images_per_second ?? job.images_per_second) },
    { head: 'Took', number: true, cell: ({ job }) => duration(elapsed(job)) },
    { head: h('span', { class: 'visually-hidden' }, 'Leave out'), cell: ({ job }) => h('button', { type: 'button', class: 'small', 'aria-label': `Leave out ${algorithm(job)} (${shortId(job.id)})`, onclick: () => go(`#/compare?ids=${ids.filter((id) => id !== job.id).join(',')}`) }, 'Leave out') },
  ], runs, { caption: 'Results' }));
}

/// Only what is not the same everywhere: of what the figures are, and the hyper-parameters.
function differences(runs) {
  if (runs.length < 2) return null;
  const values = (name) => runs.map(({ job }) => job.config[name]);
  // Seeds that look alike beyond 2^53 may still differ.
  const differ = (name) => new Set(values(name).map((value) => JSON.stringify(value))).size > 1 || values(name).some(inexact);
  const jobs = runs.map(({ job }) => job);
  const rows = [
    ...sources(jobs).map(({ name, value }) => ({ head: name, cell: (job) => value(job, jobs) })),
    // The number of labels is one of those.
    ...Object.keys(runs[0].job.config).filter((name) => name !== 'labelled' && differ(name)).map((name) => ({ head: h('code', null, name), cell: (job) => hyperParameter(name, job.config[name] ?? null) })),
  ];
  if (!rows.length) return h('p', { class: 'muted' }, 'Their configurations are the same.');
  return h('section', null, h('h2', null, 'What differs'), table([
    { head: 'What', cell: ({ head }) => head },
    ...runs.map(({ job }) => ({ head: `${algorithm(job)} (${shortId(job.id)})`, number: true, cell: (row) => row.cell(job) })),
  ], rows, { caption: 'Hyper-parameters that differ' }));
}
