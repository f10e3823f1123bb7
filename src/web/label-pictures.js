// The pictures of an archive around the one that is shown: decoded ahead, so that the next one is there at once.

import { h } from './dom.js';
import { open } from './zip.js';

const AHEAD = 2;
/// Taken back is the last one, mostly.
const BEHIND = 1;

/// `entryAt(place)` is the archive's entry of that place, of `count` places.
export function pictures(file, entryAt, count) {
  const held = new Map();

  /// An `img` that is ready to be shown; rejects where the browser cannot.
  function at(place) {
    if (!held.has(place)) {
      const picture = decoded(file, entryAt(place));
      // One that is only decoded ahead may never be asked for.
      picture.catch(() => {});
      held.set(place, picture);
    }
    return held.get(place);
  }

  /// Begins with those that come, and lets go of those that are far away.
  function around(place) {
    for (const one of held.keys()) if (one < place - BEHIND || one > place + AHEAD) held.delete(one);
    for (let one = place; one <= Math.min(place + AHEAD, count - 1); one += 1) at(one);
  }

  return { at, around };
}

/// An `img` of an entry that is ready to be shown; rejects where the browser cannot.
export async function decoded(file, entry) {
  const address = URL.createObjectURL(await open(file, entry));
  try {
    const image = h('img', { src: address, alt: `Image to label: ${entry.name}` });
    await image.decode();
    return image;
  } finally {
    // The element has its picture by now, or never will.
    URL.revokeObjectURL(address);
  }
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
