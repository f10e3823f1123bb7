// All jobs, page by page, with marks to compare some of them.

import { get, seg } from './api.js';
import { h, put } from './dom.js';
import { every, go } from './router.js';
import { table } from './table.js';
import { jobLink, badge, testAccuracy, finished } from './job-parts.js';
import { percent, score, when, duration, elapsed, shortId, algorithm } from './format.js';

const STATES = ['', 'running', 'queued', 'succeeded', 'failed', 'canceled'];
const PAGE = 50;

export async function jobs({ query, signal }) {
  const state = STATES.includes(query.get('state')) ? query.get('state') : '';
  const filter = state ? `&state=${state}` : '';
  const marked = new Set();
  const list = h('div');
  const compareButton = h('button', { type: 'button', disabled: true, onclick: () => go(`#/compare?ids=${[...marked].join(',')}`) }, 'Compare');
  let pages = [await get(`/jobs?limit=${PAGE}${filter}`, signal)];

  const draw = () => {
    const items = pages.flatMap((page) => page.items);
    const next = pages.at(-1).next_cursor;
    put(list, items.length ? jobsTable(items, marked, mark) : h('p', { class: 'muted' }, 'No such job.'),
      next && h('button', { type: 'button', onclick: () => more(next) }, 'Older jobs'));
  };
  const mark = (id, on) => {
    if (on) marked.add(id);
    else marked.delete(id);
    compareButton.disabled = marked.size < 2;
    put(compareButton, marked.size ? `Compare ${marked.size}` : 'Compare');
  };
  async function more(cursor) {
    pages.push(await get(`/jobs?limit=${PAGE}${filter}&cursor=${seg(cursor)}`, signal));
    draw();
  }

  draw();
  every(4000, signal, async () => {
    const first = await get(`/jobs?limit=${PAGE}${filter}`, signal);
    // Later pages hang on the first one's cursor; while they are open the list stands still.
    if (pages.length > 1 || JSON.stringify(first) === JSON.stringify(pages[0])) return;
    const focused = document.activeElement?.getAttribute('data-mark');
    pages = [first];
    draw();
    if (focused) list.querySelector(`[data-mark="${CSS.escape(focused)}"]`)?.focus();
  });

  return h('div', null,
    h('div', { class: 'title' }, h('h1', null, 'Jobs'),
      h('div', { class: 'actions' }, compareButton, h('a', { class: 'button primary', href: '#/jobs/new' }, 'New job'))),
    h('nav', { class: 'tabs', 'aria-label': 'State' }, STATES.map((name) => h('a', {
      href: name ? `#/jobs?state=${name}` : '#/jobs', 'aria-current': name === state ? 'true' : null,
    }, name || 'all'))),
    list);
}

function jobsTable(items, marked, mark) {
  return table([
    { head: 'Job', cell: (job) => h('span', { class: 'marked' }, h('input', {
      type: 'checkbox', 'data-mark': job.id, 'aria-label': `Compare ${algorithm(job)} ${shortId(job.id)}`, checked: marked.has(job.id),
      onchange: (event) => mark(job.id, event.target.checked),
    }), jobLink(job)) },
    { head: 'Data set', cell: (job) => h('span', { class: 'nowrap' }, job.dataset.name) },
    { head: 'Seed', number: true, cell: (job) => String(job.config.seed) },
    { head: 'State', cell: (job) => h('span', { class: 'nowrap' }, badge(job), job.state === 'running' && job.steps > 0 && h('span', { class: 'muted tabular' }, ` ${percent(job.step / job.steps, 0)}`)) },
    { head: 'Validation accuracy', number: true, cell: (job) => percent(job.best?.validation_accuracy) },
    { head: 'Test accuracy', number: true, cell: (job) => testAccuracy(job.test) },
    { head: 'Test F1', number: true, cell: (job) => score(job.test?.f1) },
    { head: 'Took', number: true, cell: (job) => duration(elapsed(job)) },
    { head: 'Queued', number: true, cell: (job) => when(job.created_at) },
  ], items, { caption: 'Jobs', rowClass: (job) => finished(job) && job.state !== 'succeeded' && 'dim' });
}
