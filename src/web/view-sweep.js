// A sweep: how far it is, the table labels × algorithm, the curve, and every job in it.

import { get, post, remove, download } from './api.js';
import { h, put, changing } from './dom.js';
import { go, every, show } from './router.js';
import { action } from './problem.js';
import { lineChart } from './chart.js';
import { facts, table } from './table.js';
import { badge, finished, shareOfSweep } from './job-parts.js';
import { ALGORITHMS, count, duration, exactly, fixed, inexact, percent, plural, points, score, share, shortId, signedPoints, when } from './format.js';
import { unmark } from './view-jobs.js';

const CHARTS = { validation_accuracy: 'Validation accuracy', test_accuracy: 'Test accuracy' };

export async function sweep(first, { path, signal, title }) {
  let [now, report, running] = [first, ...await Promise.all([get(`${path}/report`, signal), runningOf(first, signal)])];
  title(`Sweep on ${now.dataset.name}`);
  const trouble = h('div');
  const places = { head: h('div'), verdict: h('div'), rows: h('div'), gaps: h('div'), jobs: h('div') };
  const parts = Object.fromEntries(Object.entries(places).map(([name, place]) => [name, changing(place)]));
  const bar = h('progress', { max: 1, 'aria-label': 'Progress of the sweep' });
  const text = h('p', { class: 'progress-text' });
  const charts = Object.entries(CHARTS).map(([figure, name]) => ({ figure, chart: lineChart({ title: name, format: share, unit: 'labels', log: true, bounds: [0, 1] }) }));

  // Of a cancel the sweep does not tell, and jobs that run stop after the step under way only.
  let canceling = false;
  const ask = async (verb) => {
    await post(`${path}/${verb}`);
    canceling = verb === 'cancel';
    await reload();
  };

  function draw() {
    // With one in the queue, somebody has wished otherwise since.
    if (!now.counts.running || now.counts.queued) canceling = false;
    parts.head([now.state, now.counts, now.pause_requested, canceling], () => head(now, { path, trouble, canceling, ask }));
    const done = shareOfSweep(now, running);
    const pretrain = running.filter((job) => job.phase === 'pretraining').length;
    bar.value = done;
    put(text, `${percent(done, 0)} of all steps`, pretrain > 0 && ` · ${plural(pretrain, 'job pretrains', 'jobs pretrain')}`);
    bar.hidden = finished(now);
    text.hidden = finished(now);
    parts.verdict(report.verdict, () => h('p', { class: 'lead' }, report.verdict));
    parts.rows(report.rows, () => rows(report));
    parts.gaps(report.differences, () => report.differences.length > 0 && differences(report));
    parts.jobs(now.jobs, () => jobs(now, report.axes));
    for (const { figure, chart } of charts) {
      const lines = curves(report, figure, now.request.grid);
      chart.node.hidden = !lines.some((line) => line.points.length > 1);
      chart.update(lines, { xMax: 1 });
    }
  }

  let reloads = 0;
  async function reload(by = signal) {
    reloads += 1;
    const mine = reloads;
    // One after the other: a report from before the last job's end would stand for good.
    const newer = await get(path, by);
    const next = [newer, await get(`${path}/report`, by), await runningOf(newer, by)];
    // A poll that was under way when a button was pressed knows nothing of it.
    if (mine !== reloads) return;
    [now, report, running] = next;
    draw();
  }

  draw();
  // Deleted from elsewhere, it is said so.
  const look = (own) => reload(own).catch((error) => {
    if (error.status !== 404) throw error;
    show();
  });
  every(3000, signal, (own) => !finished(now) && look(own));
  // One of its jobs may be retried from elsewhere.
  every(30_000, signal, (own) => finished(now) && look(own));
  const save = (label, ending, accept) => action(label, () => download(`${path}/report`, `sweep-${shortId(now.id)}.${ending}`, { accept }), { place: trouble, kind: 'small' });
  return h('div', null,
    h('p', { class: 'crumbs' }, h('a', { href: '#/jobs' }, 'Jobs')),
    places.head, trouble, h('div', { class: 'progress' }, bar, text), places.verdict,
    h('div', { class: 'charts' }, charts.map(({ chart }) => chart.node)),
    h('section', null, h('div', { class: 'section-head' }, h('h2', null, 'Labels by algorithm'),
      h('div', { class: 'actions' }, save('As Markdown', 'md', 'text/markdown'), save('As CSV', 'csv', 'text/csv'))), places.rows),
    places.gaps, places.jobs,
    h('section', null, h('h2', null, 'Request'), facts(Object.entries(now.request).map(([name, value]) => [h('code', null, name), JSON.stringify(value, (_, part) => (inexact(part) ? exactly(part) : part))]))));
}

/// Those of its jobs that run: of pretraining the sweep itself tells nothing.
async function runningOf(now, signal) {
  if (!now.counts.running) return [];
  const { items } = await get('/jobs?state=running&limit=200', signal);
  return items.filter((job) => job.sweep === now.id);
}

function head(now, { path, trouble, canceling, ask }) {
  const act = (label, work, more) => action(label, work, { place: trouble, ...more });
  const { counts } = now;
  const again = counts.failed + counts.canceled > 0;
  const pausing = now.pause_requested && counts.running > 0 && !canceling;
  const parts = Object.entries(now.counts).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`);
  return [
    h('div', { class: 'title' }, h('h1', null, `Sweep on ${now.dataset.name} `, badge({ ...now, cancel_requested: canceling, pause_requested: pausing })),
      h('div', { class: 'actions' },
        counts.queued + counts.running > 0 && !pausing && act('Pause all', () => ask('pause'), { said: 'Pausing all jobs' }),
        (counts.paused > 0 || pausing) && act('Resume all', () => ask('resume'), { kind: 'primary', said: 'Resumed' }),
        !finished(now) && act('Cancel all', () => ask('cancel'), { kind: 'danger', said: 'Canceling all jobs' }),
        again && act('Retry what failed', () => ask('retry'), { kind: 'primary', said: 'Queued again' }),
        finished(now) && act('Delete', async () => { await remove(path); now.jobs.forEach((job) => unmark(job.id)); go('#/jobs'); }, { kind: 'danger', confirm: 'Delete all its jobs?', said: 'Deleted' }))),
    h('p', { class: 'muted' }, [plural(now.jobs.length, 'job'), ...parts, `queued ${when(now.created_at)}`].join(' · ')),
  ];
}

const labels = (row) => (row.labelled == null ? 'all' : count(row.labelled));
const name = (row) => ALGORITHMS[row.algorithm] ?? row.algorithm;
const plain = (value) => (typeof value === 'string' ? value : JSON.stringify(value));

/// A deviation has no sign, whatever the mean has.
function spread(value, format, formatMean = format) {
  if (!value) return '–';
  return value.sd == null ? formatMean(value.mean) : `${formatMean(value.mean)} ± ${format(value.sd)}`;
}

const difference = (value) => spread(value, points, signedPoints);

/// One column for each hyper-parameter of the grid.
const axisColumns = (axes) => axes.map((axis) => ({ head: axis, number: true, cell: (row) => (axis in row.values ? plain(row.values[axis]) : '–') }));

function rows(report) {
  return table([
    { head: 'Labels', number: true, cell: labels },
    { head: 'Algorithm', cell: (row) => h('span', { class: 'nowrap' }, name(row), row.marked && h('span', { class: 'muted' }, ' chosen on validation')) },
    ...axisColumns(report.axes),
    { head: 'Seeds', number: true, cell: (row) => (row.n === row.jobs ? String(row.n) : `${row.n} of ${row.jobs}`) },
    { head: 'Validation accuracy', number: true, cell: (row) => spread(row.validation_accuracy, share) },
    { head: 'Test accuracy', number: true, cell: (row) => spread(row.test_accuracy, share) },
    { head: 'Test F1 macro', number: true, cell: (row) => spread(row.test_f1_macro, score) },
    { head: 'Best epoch', number: true, cell: (row) => spread(row.best_epoch, (value) => fixed(value, 1)) },
    { head: 'Took', number: true, cell: (row) => duration(row.seconds?.mean) },
  ], report.rows, { caption: 'Mean and standard deviation over seeds' });
}

function differences(report) {
  const alike = report.differences.every((row) => row.pretrained_alike);
  return h('section', null, h('h2', null, alike ? 'Against supervised training after the same pretraining' : 'Against the supervised baseline'),
    h('p', { class: 'muted' }, 'The same labels and seeds, in points of accuracy. All seeds share their test images.'),
    table([
      { head: 'Labels', number: true, cell: labels },
      { head: 'Algorithm', cell: name },
      ...axisColumns(report.axes),
      { head: 'Validation', number: true, cell: (row) => difference(row.validation_accuracy) },
      { head: 'Test', number: true, cell: (row) => difference(row.test_accuracy) },
      { head: INTERVAL, number: true, cell: interval },
      { head: 'Ahead in', number: true, cell: (row) => `${row.wins} of ${row.pairs}` },
      { head: 'Finding', cell: (row) => row.finding },
    ], report.differences, { caption: 'Differences to the baseline' }),
    groups(report.differences));
}

const INTERVAL = '95\u202f% interval';
const interval = (row) => row.interval?.map(signedPoints).join(' to ') ?? '–';

/// Who gains: the groups of the test images, for the values that validation chose.
function groups(differences) {
  const lines = differences.filter((row) => row.chosen).flatMap((row) => row.groups.map((group) => ({ labelled: row.labelled, algorithm: row.algorithm, ...group })));
  return lines.length > 0 && [
    h('h3', null, 'By group of the test images'),
    table([
      { head: 'Labels', number: true, cell: labels },
      { head: 'Algorithm', cell: name },
      { head: 'Group', cell: (row) => `${row.attribute} ${row.value}` },
      { head: 'Images', number: true, cell: (row) => count(row.images) },
      { head: 'Supervised', number: true, cell: (row) => spread(row.baseline_accuracy, share) },
      { head: 'Difference', number: true, cell: (row) => difference(row.test_accuracy) },
      { head: INTERVAL, number: true, cell: interval },
      { head: 'Finding', cell: (row) => row.finding },
    ], lines, { caption: 'Differences to the baseline by group of the test images' }),
  ];
}

function jobs(now, axes) {
  return h('section', null, h('h2', null, 'Jobs'), table([
    { head: 'Job', cell: (run) => h('a', { href: `#/jobs/${run.id}` }, name(run), run.baseline && ' baseline') },
    { head: 'Labels', number: true, cell: labels },
    ...axisColumns(axes),
    { head: 'Seed', number: true, cell: (run) => exactly(run.seed) },
    { head: 'State', cell: (run) => h('span', null, badge(run), run.error && h('div', { class: 'hint' }, run.error)) },
    { head: 'Validation accuracy', number: true, cell: (run) => share(run.validation_accuracy) },
    { head: 'Test accuracy', number: true, cell: (run) => share(run.test_accuracy) },
    { head: 'Took', number: true, cell: (run) => duration(run.seconds) },
  ], now.jobs, { caption: 'Jobs of the sweep', rowClass: (run) => finished(run) && run.state !== 'succeeded' && 'dim' }));
}

/// A line for each algorithm over the numbers of labels; of a grid, what validation chose. Runs that are told apart by what is none
/// of the grid's have a line for each kind: nobody asked to choose between them.
function curves({ rows, axes }, figure, grid) {
  const apart = axes.filter((axis) => !(axis in (grid ?? {})));
  const kind = (row) => apart.filter((axis) => axis in row.values).map((axis) => `, ${axis} ${plain(row.values[axis])}`).join('');
  const kinds = (algorithm) => new Set(rows.filter((row) => row.algorithm === algorithm).map(kind)).size;
  const lines = new Map();
  for (const row of rows) {
    const value = row[figure];
    if (row.labelled == null || !row.chosen || !value) continue;
    const label = name(row) + (kinds(row.algorithm) > 1 ? kind(row) : '');
    if (!lines.has(label)) lines.set(label, { label, dash: row.algorithm === 'supervised', points: [] });
    lines.get(label).points.push([row.labelled, value.mean, value.sd ?? undefined]);
  }
  return [...lines.values()].sort((a, b) => a.label.localeCompare(b.label));
}
