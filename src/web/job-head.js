// What stands above a job's charts: its name, what can be done with it, and its figures.

import { make, post, remove, seg } from './api.js';
import { h } from './dom.js';
import { go, show } from './router.js';
import { action } from './problem.js';
import { tiles } from './table.js';
import { ofTest, ofValidation, trust } from './accuracy.js';
import { badge, finished } from './job-parts.js';
import { jobTitle, labels, percent, score, rate, duration, elapsed, when, exactly, inexact } from './format.js';
import { unmark } from './view-jobs.js';

export function head(now, { path, trouble, siblings, reload }) {
  const act = (label, work, more) => action(label, work, { place: trouble, ...more });
  const running = !finished(now);
  const about = [labels(now), `seed ${exactly(now.config.seed)}${inexact(now.config.seed) ? ` (in full: GET ${path})` : ''}`, now.config.network, now.device, now.attempt > 1 && `attempt ${now.attempt}`, `queued ${when(now.created_at)}`, now.finished_at && `took ${duration(elapsed(now))}`];
  const same = twins(now, siblings);
  const ids = [now.id, ...same.map((other) => other.id)];
  const hasBaseline = now.baseline || same.some((other) => other.algorithm === 'supervised' && other.config.pretrain_epochs === 0 && !['failed', 'canceled'].includes(other.state));
  const lacksBaseline = now.algorithm === 'mixmatch' && !hasBaseline;
  return [
    h('div', { class: 'title' }, h('h1', null, jobTitle(now), ' ', badge(now)),
      h('div', { class: 'actions' },
        ['queued', 'running'].includes(now.state) && !now.pause_requested && act('Pause', async () => { await post(`${path}/pause`); if (now.state === 'queued') await show(); else reload(); }, { said: 'Pausing' }),
        (now.state === 'paused' || (running && now.pause_requested)) && act('Resume', async () => { await post(`${path}/resume`); await show(); }, { kind: 'primary', said: 'Resumed' }),
        running && act('Cancel', async () => { await post(`${path}/cancel`); if (now.state !== 'running') await show(); else reload(); }, { kind: 'danger', said: 'Canceling' }),
        ['failed', 'canceled'].includes(now.state) && act('Retry', async () => { await post(`${path}/retry`); await show(); }, { kind: 'primary', said: 'Queued again' }),
        !running && act('Delete', async () => { await remove(path); unmark(now.id); go('#/jobs'); }, { kind: 'danger', confirm: 'Delete for good?', said: 'Deleted' }))),
    h('p', { class: 'muted' }, about.filter(Boolean).join(' · ')),
    h('div', { class: 'actions links' },
      lacksBaseline && !inexact(now.config.seed) && act('Train the supervised baseline on the same labels', () => baseline(now)),
      ids.length > 1 && h('a', { class: 'button', href: `#/compare?ids=${ids.join(',')}` }, `Compare with ${ids.length - 1} on the same labels`),
      now.baseline && h('a', { class: 'button', href: `#/jobs/${now.baseline.id}` }, `Its baseline (${now.baseline.state})`),
      now.baseline_of && h('a', { class: 'button', href: `#/jobs/${now.baseline_of}` }, 'The job that it is the baseline of'),
      h('a', { class: 'button', href: `#/jobs/new?from=${now.id}` }, 'Change and run again')),
    lacksBaseline && inexact(now.config.seed) && byHand(now, path),
  ];
}

/// What stands in place of the baseline's button where that would send another seed than the job's.
function byHand(now, path) {
  return h('p', { class: 'hint' }, 'The supervised baseline on the same labels cannot be queued from here: the seed is 2^53 or more, a browser rounds it, and another seed draws other labels. With curl: send ',
    h('code', null, 'POST /jobs'), ' the ', h('code', null, 'config'), ' that ', h('code', null, `GET ${path}`), ' answers with, the data set’s id as ', h('code', null, '"dataset"'), ' and ', h('code', null, '"baseline": true'),
    ' (trains both), or ', h('code', null, '"algorithm": "supervised"'), now.config.pretrain_epochs > 0 && [' and ', h('code', null, '"pretrain_epochs": 0')], ' in place of its own (the baseline alone).');
}

/// Jobs that trained on the same draw of labels, as far as their seeds can be told apart.
function twins(now, siblings) {
  if (inexact(now.config.seed)) return [];
  const same = ['labelled', 'seed', 'validation', 'validation_max'];
  return siblings.filter((other) => same.every((name) => other.config[name] === now.config[name])).slice(0, 5);
}

async function baseline(now) {
  const made = await make('/jobs', { dataset: now.dataset.id, ...now.config, algorithm: 'supervised', pretrain_epochs: 0 });
  go(`#/compare?ids=${now.id},${made.id}`);
}

export function figures(now, best, last) {
  if (!best && !now.test) return null;
  return tiles([
    best && { name: 'Best validation accuracy', value: percent(best.validation_accuracy), note: [`epoch ${best.epoch}`, trust(ofValidation(best))].filter(Boolean).join(', ') },
    last?.validation_accuracy_median != null && { name: 'Median of the last epochs', value: percent(last.validation_accuracy_median), note: 'validation accuracy, up to 20 epochs' },
    best && { name: 'Validation F1 macro', value: score(best.validation_f1_macro), note: `positive class ${score(best.validation_f1)}` },
    now.test && { name: 'Test accuracy', value: percent(now.test.accuracy), note: `${trust(ofTest(now.test))}, F1 macro ${score(now.test.f1_macro)}` },
    now.images_per_second != null && { name: 'Rate', value: rate(now.images_per_second), note: 'labelled images' },
    now.model && { name: 'Published', value: h('a', { href: '#/models' }, `${now.model.name}:${now.model.version}`), note: h('a', { href: `#/predict?model=${seg(`${now.model.name}:${now.model.version}`)}` }, 'predict with it') },
  ]);
}
