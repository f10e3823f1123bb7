// Server-sent events over fetch: EventSource can send no key. Resumes with Last-Event-ID.

import { send, Problem } from './api.js';
import { pause } from './pause.js';

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15_000;
const PASSING = new Set([408, 429]);

/// Splits a stream's text into events. Feed it chunks; it keeps what is incomplete.
export class EventParser {
  #rest = '';
  #event = { name: 'message', data: [] };
  lastId = null;

  feed(text) {
    const events = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (this.#event.data.length) events.push({ name: this.#event.name, data: this.#event.data.join('\n') });
        this.#event = { name: 'message', data: [] };
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
    else if (name === 'id') this.lastId = value;
  }

  /// What a broken connection left behind belongs to no event of the next one.
  reset() {
    this.#rest = '';
    this.#event = { name: 'message', data: [] };
  }
}

/// Follows a stream from its beginning, or from behind the event `after`, until `finished()` holds at its end, or `signal` aborts.
export async function follow(path, { signal, after = null, onevent, onlink, finished }) {
  const parser = new EventParser();
  parser.lastId = after;
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      await readOnce(path, parser, signal, (event) => {
        wait = FIRST_WAIT;
        onevent(event.name, JSON.parse(event.data));
      }, () => onlink(true));
      if (finished()) return;
    } catch (error) {
      if (signal.aborted) return;
      // Nothing there, or no right to see it: asking again would change nothing. Too many requests, or too slow a one, pass.
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && !PASSING.has(error.status)) throw error;
    }
    onlink(false);
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

async function readOnce(path, parser, signal, onevent, onopen) {
  const headers = { accept: 'text/event-stream' };
  if (parser.lastId != null) headers['last-event-id'] = parser.lastId;
  const response = await send('GET', path, { headers, signal });
  onopen();
  parser.reset();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const event of parser.feed(value)) onevent(event);
  }
}
