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

/// The raw response; a 401 asks for the key and tries again.
export async function send(method, path, { json, body, headers, signal } = {}) {
  for (;;) {
    const response = await attempt(method, path, { json, body, headers, signal });
    if (response.ok) {
      if (!OPEN.has(path)) keyTaken();
      return response;
    }
    const problem = new Problem(response.status, await readJson(response));
    if (response.status !== 401 || !(await askForKey(problem, ownAccord.has(signal)))) throw problem;
  }
}

async function attempt(method, path, { json, body, headers, signal }) {
  const all = { accept: 'application/json', ...authorization(), ...headers };
  if (json !== undefined) {
    all['content-type'] = 'application/json';
    body = JSON.stringify(json);
  }
  try {
    const response = await fetch(path, { method, headers: all, body, signal });
    isThere();
    return response;
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    const other = await changedSince(body);
    if (other) throw other;
    isAway();
    throw new Problem(0, { title: 'No answer', detail: 'The server does not answer. Is it still running?' });
  }
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
  return response.status === 204 ? null : response.json();
}

export const get = (path, signal) => call('GET', path, { signal });
export const post = (path, json) => call('POST', path, { json });
export const putJson = (path, json) => call('PUT', path, { json });
export const remove = (path) => call('DELETE', path, {});

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
/// it has to go again.
export async function upload(path, form, onprogress, signal) {
  for (;;) {
    const { status, body } = await transfer(path, form, onprogress, signal);
    if (status >= 200 && status < 300) {
      keyTaken();
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

function transfer(path, form, onprogress, signal) {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(new DOMException('canceled', 'AbortError'));
    // Of a signal that has aborted no event comes any more.
    if (signal?.aborted) {
      aborted();
      return;
    }
    const request = new XMLHttpRequest();
    request.open('POST', path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
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
