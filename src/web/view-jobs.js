// All jobs, page by page, with marks to compare some of them. The jobs of a sweep are one line.

import { Problem, get, remove, seg } from './api.js';
import { announce, h, put, keepingFocus } from './dom.js';
import { every, go } from './router.js';
import { action } from './problem.js';
import { table } from './table.js';
import { testAccuracy, validationAccuracy } from './accuracy.js';
import { jobLink, badge, finished, soFar } from './job-parts.js';
import { count, percent, score, when, duration, elapsed, shortId, algorithm, plural, exactly } from './format.js';

const STATES = ['', 'running', 'queued', 'paused', 'succeeded', 'failed', 'canceled'];
const PAGE = 50;

/// Stay while other pages are looked at: of Compare one comes back for another choice.
const marked = new Set();

/// A job that is gone has nothing to be compared.
export const unmark = (id) => marked.delete(id);

export async function jobs({ query, signal }) {
  const state = STATES.includes(query.get('state')) ? query.get('state') : '';
  const filter = state ? `&state=${state}` : '';
  const list = h('div');
  const trouble = h('div');
  const compareButton = h('button', { type: 'button', onclick: () => go(`#/compare?ids=${[...marked].join(',')}`) });
  const deletePlace = h('span');
  const refused = h('div');
  const unmarkButton = h('button', { type: 'button', onclick: unmark }, 'Unmark all');
  const newest = (by) => get(`/jobs?limit=${PAGE}${filter}`, by);
  let pages = [await newest(signal)];
  let reading = false;
  let offered = '';

  /// Nothing that is not seen here is deleted, though it is marked in a list of other states.
  const listed = () => pages.flatMap((page) => page.items).filter(({ id }) => marked.has(id)).map(({ id }) => id);
  const draw = () => {
    drawList();
    tellMarked();
  };
  const drawList = () => keepingFocus(list, () => {
    const items = pages.flatMap((page) => page.items);
    const next = pages.at(-1).next_cursor;
    put(list, items.length ? jobsTable(lines(items, { state, more: next != null }), marked, mark) : h('p', { class: 'muted' }, 'No such job.'),
      pages.length > 1 && h('p', { class: 'hint' }, 'While older jobs are open, this list is not brought up to date.'),
      (next || pages.length > 1) && h('div', { class: 'actions links' },
        next && action('Older jobs', () => older(next), { place: trouble }),
        pages.length > 1 && action('The newest again', restart, { place: trouble })));
  });
  const mark = (id, on) => {
    if (on) marked.add(id);
    else marked.delete(id);
    tellMarked();
  };
  function tellMarked() {
    compareButton.disabled = marked.size < 2;
    unmarkButton.hidden = marked.size === 0;
    put(compareButton, marked.size ? `Compare ${marked.size}` : 'Compare');
    const [here, elsewhere] = [listed().length, marked.size - listed().length];
    // While the button asks whether it is meant, it stays: as long as it asks about the same jobs.
    const offer = [...listed(), elsewhere].join(' ');
    if (offered === offer) return;
    offered = offer;
    put(deletePlace, here > 0 && [
      action(`Delete ${here}`, deleteMarked, { place: refused, kind: 'danger', confirm: `Delete ${plural(here, 'job')} for good?` }),
      elsewhere > 0 && h('span', { class: 'hint' }, ` ${count(elsewhere)} more marked in other lists ${elsewhere === 1 ? 'stays' : 'stay'}`),
    ]);
  }
  // Those of a list of other states, or of jobs that are gone, have no box here.
  function unmark() {
    marked.clear();
    tellMarked();
    draw();
    list.querySelector('input')?.focus({ preventScroll: true });
  }
  /// Those that the server refuses, as they are not over, stay marked.
  async function deleteMarked() {
    const [asked, errors] = [listed(), []];
    const known = new Map(pages.flatMap((page) => page.items).map((job) => [job.id, job]));
    for (const id of asked) {
      try {
        await remove(`/jobs/${seg(id)}`);
        marked.delete(id);
      } catch (error) {
        // Somebody else was faster.
        if (error.status === 404) marked.delete(id);
        else if (!error.status) {
          tellMarked();
          throw error;
        } else errors.push({ detail: `${[known.has(id) && algorithm(known.get(id)), shortId(id)].filter(Boolean).join(' ')}: ${error.message}` });
      }
    }
    await restart();
    tellMarked();
    const deleted = `${asked.length - errors.length} of ${plural(asked.length, 'job')} deleted`;
    announce(deleted);
    if (errors.length) throw new Problem(409, { title: 'Not all could be deleted', detail: deleted, errors });
  }
  async function older(cursor) {
    const open = pages;
    const shown = list.querySelectorAll('tbody tr').length;
    reading = true;
    try {
      const page = await get(`/jobs?limit=${PAGE}${filter}&cursor=${seg(cursor)}`, signal);
      // It goes on from the list that it was asked for, and from no other.
      if (pages !== open) return;
      pages.push(page);
    } finally {
      reading = false;
    }
    draw();
    list.querySelectorAll('tbody tr')[shown]?.querySelector('a')?.focus({ preventScroll: true });
  }
  async function restart() {
    pages = [await newest(signal)];
    draw();
  }

  draw();
  every(4000, signal, async (own) => {
    // Later pages hang on the first one's cursor; while they are open the list stands still.
    if (pages.length > 1 || reading) return;
    const first = await newest(own);
    if (pages.length > 1 || reading || JSON.stringify(first) === JSON.stringify(pages[0])) return;
    pages = [first];
    draw();
  });

  return h('div', null,
    h('div', { class: 'title' }, h('h1', null, 'Jobs'),
      h('div', { class: 'actions' }, unmarkButton, deletePlace, compareButton, h('a', { class: 'button primary', href: '#/jobs/new' }, 'New job'))),
    h('nav', { class: 'tabs', 'aria-label': 'State' }, STATES.map((name) => h('a', {
      href: name ? `#/jobs?state=${name}` : '#/jobs', 'aria-current': name === state ? 'true' : null,
    }, name || 'all'))),
    refused, list, trouble);
}

/// A sweep's jobs were queued at once, so that they are neighbours here. `of` says how many of them are here: those in the
/// list's state, and of the last line perhaps not all.
function lines(items, { state, more }) {
  const list = [];
  for (const job of items) {
    const last = list.at(-1);
    if (job.sweep && last?.sweep === job.sweep) last.jobs.push(job);
    else list.push(job.sweep ? { sweep: job.sweep, jobs: [job] } : { job });
  }
  for (const line of list) {
    if (line.sweep) line.of = plural(line.jobs.length, state ? `${state} job` : 'job') + (more && line === list.at(-1) ? ' so far' : '');
  }
  return list;
}

function counts(jobs) {
  const parts = STATES.filter(Boolean).map((state) => [state, jobs.filter((job) => job.state === state).length]).filter(([, n]) => n > 0);
  return h('span', null, parts.map(([state, n]) => [h('span', { class: `badge ${state}` }, `${n} ${state}`), ' ']));
}

const best = (jobs, figure) => jobs.map(figure).reduce((most, value) => (value != null && !(value <= most) ? value : most), null);

/// A column of jobs; a sweep shows what `many` makes of its jobs.
function column(head, one, many, number) {
  return { head, number, cell: (line) => (line.job ? one(line.job) : many?.(line)) };
}

function jobsTable(rows, marked, mark) {
  return table([
    column('Job', (job) => h('span', { class: 'marked' }, h('input', {
      type: 'checkbox', 'aria-label': `Compare ${algorithm(job)} ${shortId(job.id)}`, checked: marked.has(job.id),
      onchange: (event) => mark(job.id, event.target.checked),
    }), jobLink(job), job.baseline_of && h('span', { class: 'muted' }, ' baseline')), ({ sweep, of }) => h('a', { href: `#/jobs/${sweep}` }, `Sweep · ${of}`)),
    column('Data set', (job) => h('span', { class: 'nowrap' }, job.dataset.name), ({ jobs }) => h('span', { class: 'nowrap' }, jobs[0].dataset.name)),
    column('Seed', (job) => exactly(job.config.seed), null, true),
    column('State', (job) => h('span', { class: 'nowrap' }, badge(job), soFar(job) && h('span', { class: 'muted tabular' }, ` ${soFar(job)}`)), ({ jobs }) => counts(jobs)),
    column('Validation accuracy', (job) => validationAccuracy(job.best), ({ jobs }) => h('span', { title: 'the best' }, percent(best(jobs, (job) => job.best?.validation_accuracy))), true),
    column('Test accuracy', (job) => testAccuracy(job.test), null, true),
    column('Test F1 macro', (job) => score(job.test?.f1_macro), null, true),
    column('Took', (job) => duration(elapsed(job)), null, true),
    column('Queued', (job) => when(job.created_at), ({ jobs }) => when(jobs[0].created_at), true),
  ], rows, { caption: 'Jobs', rowClass: ({ job }) => job && finished(job) && job.state !== 'succeeded' && 'dim' });
}
