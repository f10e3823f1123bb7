// One job, live: progress, charts, log, result, and what can be done with it. An id may also be a sweep's.

import { all, get, post, remove, download, seg } from './api.js';
import { h, put, changing } from './dom.js';
import { go, show, every } from './router.js';
import { follow } from './sse.js';
import { action, problemBox } from './problem.js';
import { facts, tiles } from './table.js';
import { badge, progress, phases, finished, hyperParameter } from './job-parts.js';
import { jobCharts, bestEpoch } from './job-charts.js';
import { jobLog } from './job-log.js';
import { sweep } from './view-sweep.js';
import { testResult } from './job-test.js';
import { jobTitle, labels, percent, score, rate, duration, elapsed, when, shortId } from './format.js';

export async function job({ params, signal, title }) {
  const path = `/jobs/${seg(params.id)}`;
  let now = await get(path, signal);
  if (now.kind === 'sweep') return sweep(now, { path, signal, title });
  const done = finished(now);
  const [classes, rows, siblings] = await Promise.all([
    classesOf(now, signal),
    done ? all(`${path}/metrics`, signal) : [],
    get('/jobs?limit=200', signal).then((page) => page.items.filter((other) => other.id !== now.id && other.dataset.id === now.dataset.id)),
  ]);
  title(jobTitle(now));

  const epochs = new Map(rows.map((row) => [row.epoch, row]));
  const trouble = h('div');
  const link = h('p', { class: 'hint', role: 'status' });
  const bar = progress(now);
  const charts = jobCharts();
  const log = jobLog(seg(now.id), signal);
  const places = { head: h('div'), state: h('div'), figures: h('div'), verdict: h('div'), test: h('div') };
  const parts = Object.fromEntries(Object.entries(places).map(([name, place]) => [name, changing(place)]));

  function draw() {
    parts.head([now.state, now.cancel_requested, now.pause_requested], () => head(now, { path, trouble, siblings, reload }));
    parts.state([now.state, now.phase, now.error], () => [
      !finished(now) && [phases(now), bar.node],
      now.error && h('div', { class: 'notice bad' }, h('p', null, h('strong', null, 'Failed'), ' ', h('code', null, now.error.code), ' ', now.error.detail)),
    ]);
    bar.update(now);
    const list = [...epochs.values()].sort((a, b) => a.epoch - b.epoch);
    const best = bestEpoch(list);
    const last = list.at(-1);
    parts.figures([best, last, now.test, now.state, now.model, Math.round(now.images_per_second ?? 0)], () => figures(now, best, last));
    charts.update(list, { over: finished(now), epochs: now.epochs, best: best?.epoch, classes });
    if (now.baseline && finished(now)) compare(now.state);
    parts.test(now.test, () => now.test && testResult(now.test, classes));
  }

  /// The report's words, once both have ended.
  let compared = null;
  function compare(state) {
    if (compared === state) return;
    compared = state;
    get(`${path}/report`, signal).then((report) => {
      if (!report.finished) compared = null;
      parts.verdict(report.verdict, () => h('p', { class: 'lead' }, report.verdict));
    }).catch(() => {});
  }

  // A replay brings hundreds of events at once; they are drawn together.
  let frame = null;
  const redraw = () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      draw();
    });
  };
  let asked = null;
  const reload = () => {
    asked ??= setTimeout(async () => {
      asked = null;
      now = await get(path, signal).catch(() => now);
      redraw();
    }, 150);
  };

  let state = now.state;
  const events = {
    state: (data) => {
      state = data.state;
      reload();
    },
    // Another attempt begins, or goes on from a checkpoint: later epochs come again.
    start: (data) => [...epochs.keys()].filter((epoch) => epoch > data.epoch).forEach((epoch) => epochs.delete(epoch)),
    phase: (data) => { now = { ...now, phase: data.phase }; },
    step: (data) => {
      const { epoch, step, images_per_second, eta_seconds } = data;
      now = { ...now, epoch, step, images_per_second, eta_seconds };
    },
    epoch: (data) => epochs.set(data.epoch, data),
    test: (data) => { now = { ...now, test: data }; },
    log: () => log.refresh().catch(() => {}),
  };
  const onevent = (name, data) => {
    events[name]?.(data);
    redraw();
  };
  const onlink = (up) => put(link, up ? '' : 'The connection was lost; trying again…');

  draw();
  // The stream tells of this job only; its place in the queue depends on others.
  every(5000, signal, () => now.state === 'queued' && reload());
  log.refresh().catch(() => {});
  if (!done) {
    follow(`${path}/events`, { signal, onevent, onlink, finished: () => finished({ state }) })
      .then(() => { put(link); reload(); })
      .catch((error) => put(link, problemBox(error)));
  }

  return h('div', null,
    h('p', { class: 'crumbs' }, h('a', { href: '#/jobs' }, 'Jobs'), now.sweep && [' / ', h('a', { href: `#/jobs/${now.sweep}` }, 'Sweep')]),
    places.head, trouble, places.state, link, places.figures, places.verdict,
    h('section', null, h('div', { class: 'section-head' }, h('h2', null, 'Epochs'),
      action('Metrics as CSV', () => download(`${path}/metrics`, `job-${shortId(now.id)}.csv`, { accept: 'text/csv' }), { place: trouble, kind: 'small' }),
      action('For TensorBoard', () => download(`${path}/tensorboard`, `events.out.tfevents.job-${shortId(now.id)}`, { accept: 'application/octet-stream' }), { place: trouble, kind: 'small' })), charts.node),
    places.test, log.node, configuration(now));
}

/// Class names stand with the data set; a deleted one leaves numbers.
async function classesOf(now, signal) {
  const set = await get(`/datasets/${seg(now.dataset.id)}`, signal).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  return set?.classes ?? [];
}

function head(now, { path, trouble, siblings, reload }) {
  const act = (label, work, more) => action(label, work, { place: trouble, ...more });
  const running = !finished(now);
  const about = [labels(now), `seed ${now.config.seed}`, now.config.network, now.device, now.attempt > 1 && `attempt ${now.attempt}`, `queued ${when(now.created_at)}`, now.finished_at && `took ${duration(elapsed(now))}`];
  const same = twins(now, siblings);
  const ids = [now.id, ...same.map((other) => other.id)];
  const hasBaseline = now.baseline || same.some((other) => other.algorithm === 'supervised' && !['failed', 'canceled'].includes(other.state));
  return [
    h('div', { class: 'title' }, h('h1', null, jobTitle(now), ' ', badge(now)),
      h('div', { class: 'actions' },
        ['queued', 'running'].includes(now.state) && !now.pause_requested && act('Pause', async () => { await post(`${path}/pause`); if (now.state === 'queued') show(); else reload(); }),
        (now.state === 'paused' || (running && now.pause_requested)) && act('Resume', async () => { await post(`${path}/resume`); show(); }, { kind: 'primary' }),
        running && act('Cancel', async () => { await post(`${path}/cancel`); if (now.state !== 'running') show(); else reload(); }, { kind: 'danger' }),
        ['failed', 'canceled'].includes(now.state) && act('Retry', async () => { await post(`${path}/retry`); show(); }, { kind: 'primary' }),
        !running && act('Delete', async () => { await remove(path); go('#/jobs'); }, { kind: 'danger', confirm: 'Delete for good?' }))),
    h('p', { class: 'muted' }, about.filter(Boolean).join(' · ')),
    h('div', { class: 'actions links' },
      now.algorithm === 'mixmatch' && !hasBaseline && act('Train the supervised baseline on the same labels', () => baseline(now)),
      ids.length > 1 && h('a', { class: 'button', href: `#/compare?ids=${ids.join(',')}` }, `Compare with ${ids.length - 1} on the same labels`),
      now.baseline && h('a', { class: 'button', href: `#/jobs/${now.baseline.id}` }, `Its baseline (${now.baseline.state})`),
      now.baseline_of && h('a', { class: 'button', href: `#/jobs/${now.baseline_of}` }, 'The job that it is the baseline of'),
      h('a', { class: 'button', href: `#/jobs/new?from=${now.id}` }, 'Change and run again')),
  ];
}

/// Jobs that trained on the same draw of labels.
function twins(now, siblings) {
  const same = ['labelled', 'seed', 'validation', 'validation_max'];
  return siblings.filter((other) => same.every((name) => other.config[name] === now.config[name])).slice(0, 5);
}

async function baseline(now) {
  const made = await post('/jobs', { dataset: now.dataset.id, ...now.config, algorithm: 'supervised' });
  go(`#/compare?ids=${now.id},${made.id}`);
}

function figures(now, best, last) {
  if (!best && !now.test) return null;
  return tiles([
    best && { name: 'Best validation accuracy', value: percent(best.validation_accuracy), note: `epoch ${best.epoch}` },
    last?.validation_accuracy_median != null && { name: 'Median of the last epochs', value: percent(last.validation_accuracy_median), note: 'validation accuracy, up to 20 epochs' },
    best && { name: 'Validation F1 macro', value: score(best.validation_f1_macro), note: `positive class ${score(best.validation_f1)}` },
    now.test && { name: 'Test accuracy', value: percent(now.test.accuracy), note: `F1 macro ${score(now.test.f1_macro)}` },
    now.images_per_second != null && { name: 'Rate', value: rate(now.images_per_second), note: 'labelled images' },
    now.model && { name: 'Published', value: h('a', { href: '#/models' }, `${now.model.name}:${now.model.version}`), note: h('a', { href: `#/predict?model=${seg(`${now.model.name}:${now.model.version}`)}` }, 'predict with it') },
  ]);
}

function configuration(now) {
  const pairs = Object.entries(now.config).map(([name, value]) => [h('code', null, name), h('span', { class: value === null && 'muted' }, hyperParameter(name, value))]);
  return h('section', null, h('h2', null, 'Configuration'), h('p', { class: 'muted' }, 'As resolved when the job was queued: with these values it can be repeated.'), facts(pairs));
}
