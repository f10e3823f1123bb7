// Labelling sessions, kept in this browser: a reload or a crashed tab loses nothing once the same archive is chosen again. Beside
// each session stand its labels by their images' names, for an archive that has the images and is another one.
// Storage may be full, or forbidden: nothing here throws.

import { fingerprint } from './label-names.js';
import { UNSHOWN, decided, restored, saved, tally } from './labelling.js';

const PREFIX = 'mixmatch.labels.';

/// The key of the archive that this tab has chosen last.
let open = null;

/// Under what the session of an archive is kept: what is in it says which one it is, whatever it is called. Sessions of before stand
/// under their archive's name and size too, and stay there.
export function keyOf(file, images) {
  const [count, print] = [images.length, fingerprint(images)];
  const mine = keys().filter(({ parts }) => parts.at(-2) === count && parts.at(-1) === print && load(keyFrom(parts), count));
  const named = mine.find(({ parts }) => parts.length === 4 && parts[0] === file.name && parts[1] === file.size);
  const most = mine.map((one) => ({ ...one, labels: labels(load(one.key, count)) })).sort((a, b) => b.labels - a.labels)[0];
  const found = named ?? mine.find(({ parts }) => parts.length === 2) ?? most;
  open = found?.key ?? keyFrom([count, print]);
  return open;
}

const keyFrom = (parts) => `${PREFIX}${JSON.stringify(parts)}`;

function keys() {
  try {
    return Array.from({ length: localStorage.length }, (_, at) => localStorage.key(at)).filter((key) => key.startsWith(PREFIX))
      .flatMap((key) => partsOf(key)).sort((a, b) => (a.key < b.key ? -1 : 1));
  } catch {
    return [];
  }
}

function partsOf(key) {
  try {
    const parts = JSON.parse(key.slice(PREFIX.length));
    return Array.isArray(parts) && keyFrom(parts) === key && [2, 4].includes(parts.length) ? [{ key, parts }] : [];
  } catch {
    return [];
  }
}

export function load(key, count) {
  return sound(read(key), count);
}

/// The session that was stored; null where it is none, or damaged.
function sound(value, count) {
  try {
    return restored(value, count);
  } catch {
    return null;
  }
}

function labels(session) {
  const { train, test, picked } = tally(session);
  return train + test + picked;
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

/// Whether it is kept.
export function store(key, session, file, images) {
  const value = saved(session);
  const labels = decided(session, images.length).filter(({ decision }) => decision !== UNSHOWN)
    .map(({ image, decision, kind }) => [images[image].name, images[image].crc, decision, kind]);
  // Where there is no room for all the session itself goes first.
  return write(key, { ...value, file: file.name, at: new Date().toISOString(), labels }) || write(key, value);
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // What cannot be written was not kept either.
  }
}

/// All sessions that are kept and have labels, the latest first: `{ key, open, file, at, images, count, session, labels }`. `open` is
/// the one of the archive that this tab has chosen last. Those of before do not know when they were made, nor have `labels` by
/// name: null.
export function allStored() {
  return keys().flatMap(({ key, parts }) => {
    const value = read(key);
    const session = sound(value, parts.at(-2));
    if (!session) return [];
    const named = Array.isArray(value.labels) && value.labels.every(Array.isArray) ? value.labels.map(([name, crc, decision, kind]) => ({ name, crc, decision, kind })) : null;
    const text = (one) => (typeof one === 'string' ? one : null);
    const file = text(value.file) ?? text(parts.at(-4)) ?? 'a ZIP';
    const kept = labels(session);
    return kept === 0 ? [] : [{ key, open: key === open, file, at: text(value.at), images: parts.at(-2), count: kept, session, labels: named }];
  }).sort((a, b) => ((a.at ?? '') < (b.at ?? '') ? 1 : -1));
}

/// Whether a session's labels stand there by name.
export const isNamed = (key) => Array.isArray(read(key)?.labels);
