// Server-sent events over fetch: EventSource can send no key. Resumes with Last-Event-ID.

import { byItself, send, Problem } from './api.js';
import { KEY_GIVEN } from './key.js';
import { pause } from './pause.js';

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15_000;
/// Three times as long as the server keeps silent at most: it sends a comment every 15 s.
const SILENCE = 45_000;
/// A timer ends some time; a hidden page waits again.
const HIDDEN = 3_600_000;
const FORBIDDEN = 403;
/// Of these another attempt may do better: too many requests, or too slow a one, pass; a key, or another one, may be set later.
const PASSING = new Set([401, FORBIDDEN, 408, 429]);

const NOTHING = { name: 'message', id: null };

/// Splits a stream's text into events. Feed it chunks; it keeps what is incomplete.
export class EventParser {
  #rest = '';
  #event = { ...NOTHING, data: [] };
  lastId = null;

  feed(text) {
    const events = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        // Of an event that broke off in the middle nobody has heard: it is to come again.
        this.lastId = this.#event.id ?? this.lastId;
        if (this.#event.data.length) events.push({ name: this.#event.name, data: this.#event.data.join('\n') });
        this.#event = { ...NOTHING, data: [] };
      } else {
        this.#field(line);
      }
    }
    return events;
  }

  #field(line) {
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.#event.name = value;
    else if (name === 'data') this.#event.data.push(value);
    else if (name === 'id') this.#event.id = value;
  }

  /// What a broken connection left behind belongs to no event of the next one.
  reset() {
    this.#rest = '';
    this.#event = { ...NOTHING, data: [] };
  }
}

/// Follows a stream from its beginning, or from behind the event `after`, until `finished()` holds at its end, or `signal` aborts. A page
/// that nobody looks at lets its stream go: each holds a connection, and a browser opens six to one server for all its tabs.
/// `onlink(up)` says whether there is a connection, `onlink(false, problem)` that this key may not have one.
export async function follow(path, { signal, after = null, onevent, onlink, finished }) {
  const parser = new EventParser();
  parser.lastId = after;
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    if (document.hidden) {
      await pause(HIDDEN, signal, { unlessSeen: true });
      continue;
    }
    let refusal = null;
    const turn = new AbortController();
    document.addEventListener('visibilitychange', () => document.hidden && turn.abort(), { signal: turn.signal });
    try {
      await readOnce(path, parser, byItself(signal, turn.signal), (event) => {
        wait = FIRST_WAIT;
        onevent(event.name, JSON.parse(event.data));
      }, () => onlink(true));
      if (finished()) return;
    } catch (error) {
      if (signal.aborted) return;
      // Nothing was lost: it is asked for again when somebody looks.
      if (turn.signal.aborted) continue;
      // Nothing there: asking again would change nothing.
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && !PASSING.has(error.status)) throw error;
      if (error.status === FORBIDDEN) refusal = error;
    } finally {
      turn.abort();
    }
    onlink(false, refusal);
    await unlessKey(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

/// Waits, but no longer than until somebody gives a key.
async function unlessKey(ms, signal) {
  const given = new AbortController();
  document.addEventListener(KEY_GIVEN, () => given.abort(), { signal: given.signal });
  await pause(ms, AbortSignal.any([signal, given.signal]));
  given.abort();
}

async function readOnce(path, parser, signal, onevent, onopen) {
  const headers = { accept: 'text/event-stream' };
  if (parser.lastId != null) headers['last-event-id'] = parser.lastId;
  const response = await send('GET', path, { headers, signal });
  onopen();
  // The job is over, and all of it was told.
  if (response.status === 204) return;
  parser.reset();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await within(SILENCE, reader);
    if (done) return;
    for (const event of parser.feed(value)) onevent(event);
  }
}

/// What comes next; throws where nothing does: of a connection that has silently gone the browser says nothing for hours.
async function within(ms, reader) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('nothing came any more')), ms);
  });
  try {
    return await Promise.race([reader.read(), late]);
  } catch (error) {
    reader.cancel(error).catch(() => {});
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
