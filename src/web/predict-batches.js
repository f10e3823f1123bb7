// Asks a model about many images: in requests that the server takes, and each on its own where it does not take several.

import { send, seg } from './api.js';

// Well inside the server's default limits of 64 images and 64 MiB a request.
const BATCH_IMAGES = 16;
const BATCH_BYTES = 32 * 1024 * 1024;

const TOO_LARGE = 413;
/// No answer, no key, no right, no model: the next request would meet the same.
const FOR_ALL = new Set([0, 401, 403, 404]);

/// Calls `onanswer(cards, answer)` for each request that was answered and `onrefusal(cards, error)` for each that was not. Rejects
/// with what would meet all that follow.
export async function classify(cards, { model, threshold, signal, onanswer, onrefusal }) {
  const queue = batches(cards);
  while (queue.length) {
    const batch = queue.shift();
    batch.forEach((card) => card.send());
    try {
      onanswer(batch, await ask(batch, model, threshold, signal));
    } catch (error) {
      if (error.status === undefined) throw error;
      const changed = batch.filter((_, at) => error.errors.some(({ place }) => place === at));
      if (changed.length) {
        changed.forEach((card) => onrefusal([card], error));
        const rest = batch.filter((card) => !changed.includes(card));
        if (rest.length) queue.unshift(rest);
      } else if (FOR_ALL.has(error.status)) {
        throw error;
      } else if (error.status === TOO_LARGE && batch.length > 1) {
        // Together they have too many pixels or bytes; nobody here knows how many are allowed.
        const half = Math.ceil(batch.length / 2);
        queue.unshift(batch.slice(0, half), batch.slice(half));
      } else {
        onrefusal(batch, error);
      }
    }
  }
}

function batches(cards) {
  const list = [];
  let size = Infinity;
  for (const card of cards) {
    if (size + card.file.size > BATCH_BYTES || list.at(-1).length >= BATCH_IMAGES) {
      list.push([]);
      size = 0;
    }
    list.at(-1).push(card);
    size += card.file.size;
  }
  return list;
}

async function ask(cards, model, threshold, signal) {
  const body = new FormData();
  for (const { file } of cards) body.append('image', file, file.name || 'pasted');
  const response = await send('POST', `/predict?model=${seg(model)}&threshold=${threshold}`, { body, signal });
  return response.json();
}
