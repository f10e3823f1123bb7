// Labelling sessions, kept in this browser: a reload or a crashed tab loses nothing once the same archive is chosen again.
// Storage may be full, or forbidden: nothing here throws.

import { fingerprint, restored, saved } from './labelling.js';

/// Under what the session of an archive is kept.
export function keyOf(file, images) {
  return `mixmatch.labels.${JSON.stringify([file.name, file.size, images.length, fingerprint(images)])}`;
}

export function load(key, count) {
  try {
    return restored(JSON.parse(localStorage.getItem(key)), count);
  } catch {
    return null;
  }
}

/// Whether it is kept.
export function store(key, session) {
  try {
    localStorage.setItem(key, JSON.stringify(saved(session)));
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
