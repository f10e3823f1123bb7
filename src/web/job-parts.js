// What several pages show of a job: its state, its progress, its best figures.

import { h, put, announce } from './dom.js';
import { algorithm, labels, jobTitle, percent, rate, duration, count, exactly } from './format.js';

const PHASES = ['importing', 'pretraining', 'training', 'evaluating', 'exporting'];

/// The states that a job stays in.
export const OVER = ['succeeded', 'failed', 'canceled'];

export const finished = (job) => OVER.includes(job.state);

export function badge(job) {
  const wish = job.cancel_requested ? 'canceling' : job.pause_requested && 'pausing';
  const word = (job.state === 'running' && wish) || job.state;
  return h('span', { class: `badge ${job.state}` }, word);
}

/// What a hyper-parameter without a value stands for.
const UNSET = { labelled: 'all', positive_class: 'the first' };

/// A hyper-parameter's value in words.
export const hyperParameter = (name, value) => (value === null ? UNSET[name] ?? 'none' : exactly(value));

export function jobLink(job) {
  return h('a', { href: `#/jobs/${job.id}` }, `${algorithm(job)} · ${labels(job)}`);
}

export { testAccuracy } from './accuracy.js';

/// A bar and a line of text that follow a job; `update(job)` moves them.
export function progress(job) {
  const bar = h('progress', { max: 1, 'aria-label': `Progress of ${jobTitle(job)}` });
  const text = h('p', { class: 'progress-text' });
  let spoken = null;

  function update(next) {
    const at = stepsOf(next);
    const share = at.steps ? at.step / at.steps : 0;
    if (next.state === 'running' && (next.phase === 'importing' || (next.phase === 'pretraining' && at === next))) bar.removeAttribute('value');
    else bar.value = share;
    put(text, describe(next, at, share).filter(Boolean).flatMap((part, i) => (i ? [h('span', { class: 'dot' }, ' · '), part] : [part])));
    // Each tenth is news; each second is noise.
    const news = `${next.state} ${next.phase ?? ''} ${Math.floor(share * 10) * 10} percent`;
    if (spoken !== null && spoken !== news) announce(`${jobTitle(next)}: ${news}`);
    spoken = news;
  }

  update(job);
  return { node: h('div', { class: 'progress' }, bar, text), update };
}

/// Whose steps a job's bar counts: pretraining's own while it lasts, as soon as it has told any.
export const stepsOf = (job) => (job.state === 'running' && job.phase === 'pretraining' && job.pretraining) || job;

/// How far a job that runs is, as it stands beside its badge; what is counted is said where it is not the run's own steps.
export function soFar(job) {
  const at = stepsOf(job);
  if (job.state !== 'running' || !at.steps) return null;
  const share = percent(at.step / at.steps, 0);
  if (job.phase !== 'pretraining') return share;
  return at === job ? job.phase : `${job.phase} ${share}`;
}

/// How far a sweep is. Of those of its jobs that are `running` pretraining's steps are counted beside their own; of the others the
/// sweep tells the sum: nothing was done of those that wait, and all of those that have succeeded.
export function shareOfSweep({ step, steps }, running) {
  if (!steps) return 0;
  const sum = (figure) => running.reduce((all, job) => all + figure(job), 0);
  const others = Math.max(0, step - sum((job) => job.step));
  return Math.min(1, (others + sum((job) => job.steps * shareOf(job))) / steps);
}

/// Of all that a job has to do.
function shareOf({ step, steps, pretraining }) {
  const all = steps + (pretraining?.steps ?? 0);
  return all ? (step + (pretraining?.step ?? 0)) / all : 0;
}

function describe(job, at, share) {
  if (job.state === 'queued') return [job.queue_position ? `number ${job.queue_position} in the queue` : 'in the queue'];
  if (job.state !== 'running') return [job.state];
  if (job.phase !== 'training' && at === job) return [job.phase ?? 'starting'];
  return [
    at !== job && job.phase,
    percent(share, 0),
    `epoch ${count(at.epoch)} of ${count(at.epochs)}`,
    `step ${count(at.step)} of ${count(at.steps)}`,
    at.images_per_second != null && rate(at.images_per_second),
    at.eta_seconds != null && `${duration(at.eta_seconds)} left`,
  ];
}

/// Where a run stands among its phases.
export function phases(job) {
  const pretrains = job.config.pretrain_epochs > 0;
  const own = PHASES.filter((phase) => phase !== 'pretraining' || pretrains);
  const done = job.state === 'succeeded' ? own.length : own.indexOf(job.phase);
  return h('ol', { class: 'phases' }, own.map((phase, i) => {
    const now = i === done && job.state === 'running';
    return h('li', { class: i < done ? 'done' : now ? 'now' : null, 'aria-current': now ? 'step' : null }, phase);
  }));
}

/// A job in a list of those that run or wait; `update(job)` moves it.
export function jobCard(job) {
  const state = h('span');
  const bar = progress(job);
  const best = h('span', { class: 'muted' });
  const node = h('li', { class: 'job-card' },
    h('div', { class: 'job-head' }, state, h('a', { href: `#/jobs/${job.id}` }, jobTitle(job)), h('span', { class: 'muted' }, `${labels(job)}, seed ${exactly(job.config.seed)}`), best),
    bar.node);
  const update = (next) => {
    put(state, badge(next));
    put(best, next.best ? `best validation ${percent(next.best.validation_accuracy)}` : '');
    bar.update(next);
  };
  update(job);
  return { node, update };
}
