// A server that does not answer: a bar says so until it does, which is asked now and then.

import { pause } from './pause.js';

const EVERY_MS = 3000;
/// A question that hangs is no answer.
const PATIENCE_MS = 10_000;

const listeners = [];
let away = null;

/// Calls `listener` whenever the server answers again.
export function whenBack(listener) {
  listeners.push(listener);
}

/// A request was answered, whatever with.
export function isThere() {
  if (!away) return;
  away.abort();
  away = null;
  document.getElementById('offline').hidden = true;
  listeners.forEach((listener) => listener());
}

/// One was not.
export function isAway() {
  if (away) return;
  away = new AbortController();
  document.getElementById('offline').hidden = false;
  ask(away.signal);
}

async function ask(signal) {
  while (!signal.aborted) {
    await pause(EVERY_MS, signal, { unlessSeen: true });
    // Who does not look has time.
    if (signal.aborted || document.hidden) continue;
    const own = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
    // What stands before the server may answer in its place.
    const alive = await fetch('/livez', { cache: 'no-store', signal: own }).then(({ ok }) => ok, () => false);
    if (alive && !signal.aborted) isThere();
  }
}
