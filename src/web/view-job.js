// One job, live: progress, charts, log, result, and what can be done with it. An id may also be a sweep's.

import { get, download, byItself, seg } from './api.js';
import { h, put, changing } from './dom.js';
import { every, show } from './router.js';
import { follow } from './sse.js';
import { action, problemBox } from './problem.js';
import { facts } from './table.js';
import { progress, phases, finished, hyperParameter } from './job-parts.js';
import { Epochs, better, later } from './epochs.js';
import { head, figures } from './job-head.js';
import { jobCharts } from './job-charts.js';
import { jobLog } from './job-log.js';
import { sweep } from './view-sweep.js';
import { testResult } from './job-test.js';
import { warnings } from './job-warnings.js';
import { jobTitle, shortId } from './format.js';

export async function job({ params, signal, title }) {
  const path = `/jobs/${seg(params.id)}`;
  let now = await get(path, signal);
  if (now.kind === 'sweep') return sweep(now, { path, signal, title });
  const done = finished(now);
  const [classes, siblings] = await Promise.all([
    classesOf(now, signal),
    get('/jobs?limit=200', signal).then((page) => page.items.filter((other) => other.id !== now.id && other.dataset.id === now.dataset.id)),
  ]);
  title(jobTitle(now));

  // For all that follows: nobody asked for it just now.
  const own = byItself(signal);
  const epochs = new Epochs(now.epochs);
  const trouble = h('div');
  const unread = h('div');
  const link = h('p', { class: 'hint', role: 'status' });
  const bar = progress(now);
  const charts = jobCharts();
  const log = jobLog(seg(now.id), own);
  const places = { head: h('div'), state: h('div'), figures: h('div'), warnings: h('div'), verdict: h('div'), test: h('div') };
  const parts = Object.fromEntries(Object.entries({ ...places, link }).map(([name, place]) => [name, changing(place)]));
  let none = done ? 'Reading the epochs…' : 'The first epoch is not over yet.';

  function draw() {
    parts.head([now.state, now.cancel_requested, now.pause_requested, now.device, now.attempt, now.baseline], () => head(now, { path, trouble, siblings, reload }));
    parts.state([now.state, now.phase, now.error], () => [
      !finished(now) && [phases(now), bar.node],
      now.error && h('div', { class: 'notice bad' }, h('p', null, h('strong', null, 'Failed'), ' ', h('code', null, now.error.code), ' ', now.error.detail)),
    ]);
    bar.update(now);
    // The server knows all epochs, the stream the newest: what has been read of them for the charts may be less.
    const best = better(now.best, epochs.best);
    const last = later(now.last, epochs.last);
    parts.figures([best, last, now.test, now.state, now.model, Math.round(now.images_per_second ?? 0)], () => figures(now, best, last));
    // Before the end it is chosen anew each time, and one epoch may look so by chance.
    parts.warnings(now.state === 'succeeded' && best, () => now.state === 'succeeded' && warnings(best, now.config));
    if (!done && finished(now)) none = 'No epoch was finished.';
    charts.update(epochs.rows(), { none, epochs: now.epochs, best: best?.epoch, classes });
    if (now.baseline && finished(now)) verdict();
    parts.test(now.test, () => now.test && testResult(now.test, classes));
  }

  /// The report's words; again when the baseline has ended too.
  let told = null;
  async function verdict() {
    const states = `${now.state} ${now.baseline.state}`;
    if (told === states) return;
    told = states;
    try {
      const report = await get(`${path}/report`, own);
      parts.verdict(report.verdict, () => h('p', { class: 'lead' }, report.verdict));
    } catch {
      // The next drawing asks again.
      told = null;
    }
  }

  // A replay brings hundreds of events at once; they are drawn together.
  let frame = null;
  const redraw = () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      if (!own.aborted) draw();
    });
  };

  /// Reads the job anew: soon, as news come in swarms, and again if there is more of it meanwhile.
  let asked = null;
  let behind = false;
  const reload = () => {
    behind = true;
    asked ??= setTimeout(async () => {
      behind = false;
      let next = null;
      let gone = false;
      try {
        next = await get(path, own);
      } catch (error) {
        gone = error.status === 404;
      }
      asked = null;
      if (own.aborted) return;
      // Deleted or retried from elsewhere: the page was built for a job that is there, or that is over.
      if (gone || (next && finished(now) && (next.state !== now.state || next.attempt !== now.attempt))) show();
      else if (!next) behind = true;
      else {
        now = next;
        if (behind) reload();
        redraw();
      }
    }, 150);
  };
  /// Whether something has changed that no event will tell: a place in the queue, the baseline, an answer that did not come.
  const overdue = () => behind || now.state === 'queued' || (finished(now) && now.baseline && (told === null || !finished(now.baseline)));

  let { state, attempt } = now;
  const events = {
    state: (data) => {
      ({ state, attempt } = data);
      reload();
    },
    // Another attempt begins, or goes on from a checkpoint: later epochs come again.
    start: (data) => {
      epochs.drop(data.epoch);
      if (attempt > now.attempt) now = { ...now, best: null, last: null };
      reload();
    },
    phase: (data) => {
      now = { ...now, phase: data.phase };
      reload();
    },
    pretraining: (data) => {
      now = { ...now, pretraining: data };
    },
    step: (data) => {
      const { epoch, step, images_per_second, eta_seconds } = data;
      now = { ...now, epoch, step, images_per_second, eta_seconds };
    },
    epoch: (data) => epochs.add(data),
    test: (data) => {
      now = { ...now, test: data };
      reload();
    },
    log: () => log.refresh(),
  };
  const onevent = (name, data) => {
    events[name]?.(data);
    redraw();
  };
  const onlink = (up, refusal) => parts.link([up, refusal?.message], () => {
    if (up) return '';
    return refusal ? problemBox(refusal) : 'The connection was lost; trying again…';
  });

  /// What a long run has told so far, as its charts have it: the stream would tell each epoch. Gives the event to go on from;
  /// none where it could not be read, as the stream tells all of it then.
  async function readBefore() {
    try {
      const event = await epochs.read(path, own);
      now = await get(path, own);
      ({ state, attempt } = now);
      redraw();
      return event;
    } catch {
      return null;
    }
  }

  async function live() {
    const after = epochs.leftOut ? await readBefore() : null;
    await follow(`${path}/events`, { signal: own, after, onevent, onlink, finished: () => finished({ state }) });
  }

  /// The epochs of a finished run; those of another come with the stream.
  async function readEpochs() {
    put(unread);
    try {
      await epochs.read(path, own);
      none = 'No epoch was finished.';
    } catch (error) {
      if (own.aborted) return;
      none = '';
      put(unread, problemBox(error), action('Read the epochs again', readEpochs, { place: h('div'), kind: 'small' }));
    }
    redraw();
  }

  draw();
  every(5000, signal, () => overdue() && reload());
  every(30_000, signal, () => finished(now) && reload());
  log.refresh();
  if (done) readEpochs();
  else {
    live()
      .then(() => { put(link); reload(); })
      .catch((error) => put(link, problemBox(error)));
  }

  return h('div', null,
    h('p', { class: 'crumbs' }, h('a', { href: '#/jobs' }, 'Jobs'), now.sweep && [' / ', h('a', { href: `#/jobs/${now.sweep}` }, 'Sweep')]),
    places.head, trouble, places.state, link, places.figures, places.warnings, places.verdict, places.test,
    h('section', null, h('div', { class: 'section-head' }, h('h2', null, 'Epochs'), h('div', { class: 'actions' },
      action('Metrics as CSV', () => download(`${path}/metrics`, `job-${shortId(now.id)}.csv`, { accept: 'text/csv' }), { place: trouble, kind: 'small' }),
      action('For TensorBoard', () => download(`${path}/tensorboard`, `events.out.tfevents.job-${shortId(now.id)}`, { accept: 'application/octet-stream' }), { place: trouble, kind: 'small' }))),
      epochs.leftOut && h('p', { class: 'hint' }, `${epochs.leftOut} The CSV has all of them, and the figures above are of all.`), unread, charts.node),
    log.node, configuration(now));
}

/// Class names stand with the data set; a deleted one leaves numbers.
async function classesOf(now, signal) {
  const set = await get(`/datasets/${seg(now.dataset.id)}`, signal).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  return set?.classes ?? [];
}

function configuration(now) {
  const pairs = Object.entries(now.config).map(([name, value]) => [h('code', null, name), h('span', { class: value === null && 'muted' }, hyperParameter(name, value))]);
  return h('section', null, h('h2', null, 'Configuration'), h('p', { class: 'muted' }, 'As resolved when the job was queued: with these values it can be repeated.'), facts(pairs));
}
