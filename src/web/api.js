// Speaks to the service: JSON in and out, errors as problem+json, the key where one is set.

import { CHANGED, changed } from './files.js';
import { authorization, askForKey, keyTaken } from './key.js';
import { isAway, isThere } from './offline.js';

/// An error answer (RFC 9457), or a network that does not answer (status 0).
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? body?.title ?? `The server answered ${status}`);
    this.status = status;
    this.title = body?.title ?? (status === 0 ? 'No answer' : `Status ${status}`);
    this.errors = Array.isArray(body?.errors) ? body.errors : [];
  }
}

/// Signals of requests that nobody made just now.
const ownAccord = new WeakSet();

/// A signal, of `signals`, for what the page asks by itself, again and again: a 401 opens no dialogue once somebody has cancelled one.
export function byItself(...signals) {
  const own = AbortSignal.any(signals);
  ownAccord.add(own);
  return own;
}

// Whoever may ask for these, their answers say nothing of a key.
const OPEN = new Set(['/readyz', '/openapi.json']);

/// A question that hangs for so long is told as one without an answer; the server gives up its own after 30 s and says so.
const PATIENCE_MS = 75_000;

/// The raw response; a 401 asks for the key and tries again. `patience`: each try, and what it answers with, has so many milliseconds.
export async function send(method, path, { json, body, headers, signal, patience } = {}) {
  for (;;) {
    const response = await attempt(method, path, { json, body, headers, signal, patience });
    if (response.ok) {
      if (!OPEN.has(path)) keyTaken();
      return response;
    }
    const problem = new Problem(response.status, await readJson(response));
    if (response.status !== 401 || !(await askForKey(problem, ownAccord.has(signal)))) throw problem;
  }
}

async function attempt(method, path, { json, body, headers, signal, patience }) {
  const all = { accept: 'application/json', ...authorization(), ...headers };
  if (json !== undefined) {
    all['content-type'] = 'application/json';
    body = JSON.stringify(json);
  }
  try {
    const signals = [signal, patience && AbortSignal.timeout(patience)].filter(Boolean);
    const response = await fetch(path, { method, headers: all, body, signal: AbortSignal.any(signals) });
    isThere();
    return response;
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    const other = await changedSince(body);
    if (other) throw other;
    throw noAnswer();
  }
}

function noAnswer() {
  isAway();
  return new Problem(0, { title: 'No answer', detail: 'The server does not answer. Is it still running?' });
}

/// The problem that no answer came for where a file of the form is another than the one that was chosen: browsers refuse to send
/// such a form, and say no more of it than of a server that is gone. Each of its errors has the file's `place` in the form.
async function changedSince(body) {
  const files = body instanceof FormData ? await changed(body) : [];
  return files.length > 0 && new Problem(0, { title: 'Not sent', detail: CHANGED, errors: files.map(({ name, place }) => ({ pointer: `/${name}`, detail: CHANGED, place })) });
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

async function call(method, path, options) {
  const response = await send(method, path, options);
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    // It hangs in the middle.
    throw error.name === 'TimeoutError' ? noAnswer() : error;
  }
}

export const get = (path, signal) => call('GET', path, { signal, patience: PATIENCE_MS });
/// What the server may compute for minutes.
export const getSlow = (path, signal) => call('GET', path, { signal });
export const post = (path, json) => call('POST', path, { json });
export const putJson = (path, json) => call('PUT', path, { json });
export const remove = (path) => call('DELETE', path, {});

/// The keys of what was sent and had no answer that says it is done: sent again it is carried out once.
const unanswered = new Map();

// Whoever went to look what became of it and comes back means another one.
globalThis.addEventListener?.('hashchange', () => unanswered.clear());

/// The header that tells a request which is sent again from a new one, and what to call once it is done; `content` is all that it says.
function once(path, content) {
  const sent = `${path} ${content}`;
  if (!unanswered.has(sent)) unanswered.set(sent, freshKey());
  return { headers: { 'idempotency-key': unanswered.get(sent) }, done: () => unanswered.delete(sent) };
}

// crypto.randomUUID is there for secure contexts alone.
const freshKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16).padStart(8, '0')).join('');

/// Makes something anew, and once: clicked again after an answer that was lost, it gives what that click has made.
export async function make(path, json) {
  const { headers, done } = once(path, JSON.stringify(json));
  const made = await call('POST', path, { json, headers });
  done();
  return made;
}

/// One segment of a path.
export const seg = encodeURIComponent;

/// All items of a list, in the largest pages that the server gives.
export async function all(path, signal) {
  const items = [];
  const first = `${path}${path.includes('?') ? '&' : '?'}limit=1000`;
  let cursor = null;
  do {
    const page = await get(cursor ? `${first}&cursor=${seg(cursor)}` : first, signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return items;
}

/// The values of an answer with one on each line, in lists as they arrive; before them, `onhead` gets its headers.
export async function* jsonLines(path, signal, onhead) {
  const response = await send('GET', path, { headers: { accept: 'application/x-ndjson' }, signal });
  onhead(response.headers);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read().catch(brokenOff);
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    yield lines.map((line) => JSON.parse(line));
  }
}

function brokenOff(error) {
  if (error.name === 'AbortError') throw error;
  throw new Problem(0, { title: 'Broken off', detail: 'The answer broke off: the server or the network ended it.' });
}

/// Sends a form with `fetch`'s blind spot mended: it cannot tell how much has gone out, XMLHttpRequest can. `onprogress(0, 0)` where all of
/// it has to go again. `made` is what of it a browser cannot tell apart without reading: texts of files that the page has made.
export async function upload(path, form, onprogress, signal, made = []) {
  const { headers, done } = once(path, JSON.stringify([[...form].map(([name, value]) => [name, ...stateOf(value)]), made]));
  for (;;) {
    const { status, body } = await transfer(path, form, { onprogress, headers, signal });
    if (status >= 200 && status < 300) {
      keyTaken();
      done();
      return body;
    }
    const cutOff = { title: 'No answer', detail: 'The upload was cut off: the server or the network ended it.' };
    const problem = (status === 0 && await changedSince(form)) || new Problem(status, status === 0 ? cutOff : body);
    if (status !== 401) throw problem;
    // What has arrived was thrown away.
    onprogress(0, 0);
    if (!(await askForKey(problem))) throw problem;
  }
}

/// A chosen file is known by its state: to read it may take minutes.
const stateOf = (value) => (value instanceof File ? [value.name, value.size, value.lastModified] : [value]);

function transfer(path, form, { onprogress, headers, signal }) {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(new DOMException('canceled', 'AbortError'));
    // Of a signal that has aborted no event comes any more.
    if (signal?.aborted) {
      aborted();
      return;
    }
    const request = new XMLHttpRequest();
    request.open('POST', path);
    for (const [name, value] of Object.entries({ ...authorization(), ...headers })) request.setRequestHeader(name, value);
    request.responseType = 'json';
    request.upload.onprogress = (event) => onprogress(event.loaded, event.total);
    request.upload.onload = () => onprogress(1, 1);
    request.onloadend = () => resolve({ status: request.status, body: request.response });
    request.onabort = aborted;
    signal?.addEventListener('abort', () => request.abort());
    request.send(form);
  });
}

/// Saves an answer as a file. A link could not bring the key along.
export async function download(path, name, headers) {
  const response = await send('GET', path, { headers });
  saveAs(await response.blob(), name);
}

/// Saves what the page has as a file.
export function saveAs(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
