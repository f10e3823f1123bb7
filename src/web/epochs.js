// A run's epochs, for its charts. A run may have 100,000, and a chart is some hundred pixels wide: of a long one only every
// second, third, … is read and kept, and always its best and its last.

import { jsonLines } from './api.js';

const MOST = 2000;

export class Epochs {
  #kept = new Map();
  #stride;
  best = null;
  last = null;

  /// Of a run of `planned` epochs.
  constructor(planned) {
    this.#stride = Math.max(1, Math.ceil(planned / MOST));
  }

  add(row) {
    if (row.epoch === 1 || row.epoch % this.#stride === 0) this.#kept.set(row.epoch, row);
    this.best = better(this.best, row);
    this.last = later(this.last, row);
  }

  /// Forgets those after `epoch`: another attempt comes to them again.
  drop(epoch) {
    for (const at of this.#kept.keys()) if (at > epoch) this.#kept.delete(at);
    const kept = [...this.#kept.values()];
    if (this.best?.epoch > epoch) this.best = kept.reduce((best, row) => better(best, row), null);
    if (this.last?.epoch > epoch) this.last = kept.reduce((last, row) => later(last, row), null);
  }

  /// Those to draw, in order.
  rows() {
    const all = new Map(this.#kept);
    for (const row of [this.best, this.last]) if (row) all.set(row.epoch, row);
    return [...all.values()].sort((a, b) => a.epoch - b.epoch);
  }

  /// Reads from the server what is behind the last: one answer, whatever its length. Gives the job's newest event before it:
  /// those behind that one tell the rest.
  async read(path, signal) {
    // The best comes along wherever it is behind the last; before that, it came along earlier.
    const asked = `${path}/metrics?cursor=${this.last?.epoch ?? 0}&every=${this.#stride}`;
    let event = null;
    const head = (headers) => { event = headers.get('last-event-id'); };
    for await (const rows of jsonLines(asked, signal, head)) rows.forEach((row) => this.add(row));
    return event;
  }

  /// What is left out of the charts, in words; null if nothing is.
  get leftOut() {
    return this.#stride === 1 ? null : `The charts show one epoch in ${this.#stride}, besides the first, the best and the last.`;
  }
}

/// As the server chooses: one that leaves no class out, the higher validation accuracy, ties by lower validation loss, then the earlier.
export function better(one, other) {
  if (!one || !other) return one ?? other ?? null;
  const ahead = Boolean(one.validation_collapsed) - Boolean(other.validation_collapsed) || other.validation_accuracy - one.validation_accuracy || one.validation_loss - other.validation_loss || one.epoch - other.epoch;
  return ahead > 0 ? other : one;
}

export function later(one, other) {
  if (!one || !other) return one ?? other ?? null;
  return other.epoch >= one.epoch ? other : one;
}
