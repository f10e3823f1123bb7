// Of which images the figures are that stand side by side.

import { h } from './dom.js';
import { finished } from './job-parts.js';
import { count, plural, shortId } from './format.js';

const tested = (job) => job.test?.images ?? null;
const validated = (job) => (job.best?.validation_images > 0 ? job.best.validation_images : null);

/// What a job's figures come from, as rows that `value(job)` fills.
const SOURCES = [
  { name: 'data set', value: (job, jobs) => dataset(job, jobs) },
  { name: 'labels', value: (job) => (job.config.labelled == null ? 'all' : count(job.config.labelled)) },
  { name: 'validation images', value: (job) => count(validated(job)) },
  { name: 'test images', value: (job) => count(tested(job)) },
];

/// Those that are not the same everywhere; of several data sets all of them.
export function sources(jobs) {
  const values = (row) => new Set(jobs.map((job) => row.value(job, jobs)));
  return SOURCES.filter((row) => apart(jobs) || values(row).size > 1);
}

const ids = (jobs) => [...new Set(jobs.map((job) => job.dataset.id))];
const apart = (jobs) => ids(jobs).length > 1;

/// By its name, and where another one is called so by its id, too.
function dataset({ dataset: { id, name } }, jobs) {
  const same = new Set(jobs.filter((job) => job.dataset.name === name).map((job) => job.dataset.id));
  return same.size > 1 ? `${name} (${shortId(id)})` : name;
}

/// What is to be known before the figures of `jobs` are held against each other; nothing where their images are the same.
export function doubt(jobs) {
  if (apart(jobs)) {
    const sets = ids(jobs).map((id) => {
      const own = jobs.filter((job) => job.dataset.id === id);
      return `${dataset(own[0], jobs)} (${numbers(own, validated, 'validation image')}, ${numbers(own, tested, 'test image')})`;
    });
    return { kind: 'notice warn', words: `These jobs learned from ${count(sets.length)} data sets, and their figures are not of the same images: ${sets.join('; ')}. Where one is ahead, its images may be the easier ones.` };
  }
  const draws = new Set(jobs.map(({ config }) => JSON.stringify([config.seed, config.validation, config.validation_max])));
  if (draws.size > 1) return { kind: 'hint', words: 'Their validation images were drawn apart, as the seed or the share of them differs' + (jobs.every((job) => tested(job) != null) ? '; their test images are the same.' : '.') };
  return null;
}

function numbers(jobs, figure, word) {
  const all = [...new Set(jobs.map(figure).filter((n) => n != null))].sort((a, b) => a - b);
  if (!all.length) return `no ${word}s${jobs.every(finished) ? '' : ' yet'}`;
  return all.length === 1 ? plural(all[0], word) : `${all.map(count).join(' or ')} ${word}s`;
}

export function notice(jobs) {
  const found = doubt(jobs);
  return found && h('p', { class: found.kind }, found.words);
}
