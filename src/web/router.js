// Hash routes: `#/jobs/{id}?x=y`. A view is an async function that gives its element; leaving aborts its signal.

import { h, put } from './dom.js';
import { problemBox } from './problem.js';
import { byItself } from './api.js';
import { whenBack } from './offline.js';
import { pause } from './pause.js';

/// What pages ask for is there for every key but those of the smallest scope, which may ask models.
const FORBIDDEN = 403;
const ALLOWED = '#/predict';

const routes = [];
let current = null;
/// What is shown says that the page could not be.
let failed = false;

export function route(pattern, title, view) {
  const names = [];
  const source = pattern.replace(/\{(\w+)\}/g, (_, name) => {
    names.push(name);
    return '([^/]+)';
  });
  routes.push({ expression: new RegExp(`^${source}$`), names, title, view });
}

function parse() {
  const [path, query = ''] = location.hash.replace(/^#/, '').split('?');
  return { path: path || '/', query: new URLSearchParams(query) };
}

/// Shows what the address names; again, if it is shown already.
export async function show() {
  const { path, query } = parse();
  current?.abort();
  const leaving = new AbortController();
  current = leaving;
  const main = document.getElementById('main');
  const slow = setTimeout(() => put(main, h('p', { class: 'muted' }, 'Loading…')), 300);
  // A page that is drawn anew takes the focus along with what had it.
  const focused = main.contains(document.activeElement);
  markNavigation(path);
  let title = 'Nothing here';
  let shown;
  let failing = false;
  try {
    const found = find(path);
    // A view without a title of its own names itself.
    if (found) title = found.title;
    shown = found ? await found.view({ params: found.params, query, signal: leaving.signal, title: setTitle }) : nothing(path);
  } catch (error) {
    if (leaving.signal.aborted) return;
    if (error.status === FORBIDDEN && path === '/') {
      location.replace(ALLOWED);
      return;
    }
    if (!error.status && error.status !== 0) console.error(error);
    title = 'Problem';
    failing = true;
    shown = h('div', null, h('h1', null, 'This could not be shown'), problemBox(error),
      error.status === FORBIDDEN && h('p', null, 'This key is for predictions: it opens ', h('a', { href: ALLOWED }, 'Predict'), ' and Models. The button Key above sets another.'),
      h('p', null, h('button', { type: 'button', onclick: show }, 'Try again')));
  } finally {
    clearTimeout(slow);
  }
  if (leaving.signal.aborted) return;
  if (title) setTitle(title);
  failed = failing;
  put(main, shown);
  if (focused && document.activeElement === document.body) main.focus({ preventScroll: true });
}

/// Tries once more, where the page could not be shown.
export function showIfFailed() {
  if (failed) show();
}

whenBack(showIfFailed);

function find(path) {
  for (const { expression, names, title, view } of routes) {
    const match = expression.exec(path);
    if (!match) continue;
    const params = Object.fromEntries(names.map((name, at) => [name, decoded(match[at + 1])]));
    return { title, view, params };
  }
  return null;
}

/// As written, where it is no percent-encoding.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function nothing(path) {
  return h('div', null, h('h1', null, 'Nothing here'), h('p', null, `There is no page ${path}. `, h('a', { href: '#/' }, 'Back to the overview')));
}

export function setTitle(text) {
  document.title = `${text} · mixmatch`;
}

export function go(hash) {
  if (location.hash === hash) show();
  else location.hash = hash;
}

/// Pages without an entry of their own in the navigation, and whose they are.
const BELONGS = { '/compare': '/jobs', '/label': '/datasets' };

function markNavigation(path) {
  const section = BELONGS[path] ?? `/${path.split('/')[1]}`;
  for (const link of document.querySelectorAll('#nav a')) {
    if (link.getAttribute('href') === `#${section}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

/// Calls `work` now and then while the view is shown and the tab is looked at, and when it is looked at again, with the signal for
/// what it asks.
export async function every(ms, signal, work) {
  const own = byItself(signal);
  while (!signal.aborted) {
    await pause(ms, signal, { unlessSeen: true });
    if (signal.aborted) return;
    if (document.hidden) continue;
    try {
      await work(own);
    } catch (error) {
      // A poll that fails is not worth an alarm; the next one may succeed.
      if (!signal.aborted && error.status === undefined) console.error(error);
    }
  }
}
