// The pictures of an archive around the one that is shown: decoded ahead, so that the next one is there at once.

import { h } from './dom.js';
import { bytes as inWords } from './format.js';
import { open } from './zip.js';

const AHEAD = 2;
/// Taken back is the last one, mostly.
const BEHIND = 1;

/// As src/imaging/decode.rs has it: pixels of a side, and bytes, which may be half as many as the pixels where that is more.
const MOST_SIDE = 16_384;
const MOST_BYTES = 25 * 2 ** 20;
/// A server that is slow to say its limits holds nobody up.
const PATIENCE_MS = 3000;

/// `entryAt(place)` is the archive's entry of that place, of `count` places. `limits` is a promise of what the server takes: what is
/// larger is rejected.
export function pictures(file, entryAt, count, limits) {
  const known = Promise.race([limits, new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS, {}); })]);
  const held = new Map();

  /// An `img` that is ready to be shown; rejects where the browser cannot.
  function at(place) {
    if (!held.has(place)) {
      const picture = taken(entryAt(place));
      held.set(place, picture);
      // One that is only decoded ahead may never be asked for; asked for, it is tried anew.
      picture.catch(() => held.get(place) === picture && held.delete(place));
    }
    return held.get(place);
  }

  async function taken(entry) {
    const most = await known;
    const image = await decoded(file, entry);
    const reason = tooLarge(entry, image, most);
    if (reason) throw new Error(reason);
    return image;
  }

  /// Begins with those that come, and lets go of those that are far away.
  function around(place) {
    for (const one of held.keys()) if (one < place - BEHIND || one > place + AHEAD) held.delete(one);
    for (let one = place; one <= Math.min(place + AHEAD, count - 1); one += 1) at(one);
  }

  return { at, around };
}

/// Why the server would not take an image that this browser shows, by what it says of its pixels; nothing where it would.
export function tooLarge({ size }, { naturalWidth: width, naturalHeight: height }, { max_pixels: most }) {
  if (!(most > 0)) return null;
  const bytes = Math.max(MOST_BYTES, Math.floor(Math.min(most, MOST_SIDE ** 2) / 2));
  if (size > bytes) return `${inWords(size)}, and this server takes ${inWords(bytes)} of an image: save it smaller`;
  if (width * height > most) return `${width} × ${height} pixels, and this server takes ${most}: start it with a larger --max-pixels`;
  return Math.max(width, height) > MOST_SIDE ? `${width} × ${height} pixels, and this server takes ${MOST_SIDE} a side` : null;
}

/// An `img` of an entry that is ready to be shown; rejects where the browser cannot, twice.
export async function decoded(file, entry) {
  const blob = await open(file, entry);
  return loaded(blob, entry).catch(() => loaded(blob, entry));
}

async function loaded(blob, { name }) {
  const address = URL.createObjectURL(blob);
  try {
    const image = h('img', { alt: `Image to label: ${name}` });
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new DOMException('The source image cannot be decoded.', 'EncodingError'));
      image.src = address;
    });
    // Of a photo that is large for the memory that decoded images have in all, Chromium rejects this although it is drawn.
    await image.decode().catch(() => check(blob));
    return image;
  } finally {
    // The element has its picture by now, or never will.
    URL.revokeObjectURL(address);
  }
}

/// Rejects where the pixels of an image cannot be had: it may be cut off behind its header.
async function check(blob) {
  const bitmap = await createImageBitmap(blob, { resizeHeight: SMALL, resizeQuality: 'low' });
  bitmap.close();
}

/// Pixels; twice as many as it is high on the page.
const SMALL = 200;

/// A small `canvas` of an entry: many photos as they are would fill the memory. Rejects where the browser cannot.
export async function thumbnail(file, entry) {
  const bitmap = await createImageBitmap(await open(file, entry), { resizeHeight: SMALL, resizeQuality: 'medium' });
  const canvas = h('canvas', { width: bitmap.width, height: bitmap.height });
  canvas.getContext('2d').drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}
