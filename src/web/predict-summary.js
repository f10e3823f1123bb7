// What was said of many images: what each came to, how many came to what, and all of it as a sheet.

import { count } from './format.js';

export const UNDECIDED = 'undecided';
export const UNANSWERED = 'unanswered';
const WAITING = 'waiting';

/// A class may be called as one of those.
export const ofClass = (name) => `class:${name}`;

/// Whether an answer is taken for undecided: below the threshold, or of a photo without the face that the model looks for.
export const isUndecided = (result, threshold) => result.face === null || result.probability < threshold;

/// What an image came to; of it there is `{ result }`, or the `{ error }` why there is none, or neither yet,
/// though it may be `sent` already.
export function outcome({ result, error }, threshold) {
  if (error != null) return UNANSWERED;
  if (!result) return WAITING;
  return isUndecided(result, threshold) ? UNDECIDED : ofClass(result.label);
}

/// How many images came to what: `{ key, name, n }`, the most frequent class first.
export function tally(images, threshold) {
  const numbers = new Map();
  for (const image of images) {
    const key = outcome(image, threshold);
    numbers.set(key, (numbers.get(key) ?? 0) + 1);
  }
  const kinds = [[UNDECIDED, 'undecided'], [UNANSWERED, 'without an answer'], [WAITING, 'waiting']].map(([key, name]) => ({ key, name, n: numbers.get(key) ?? 0 }));
  const classes = classesOf(images).map((name) => ({ key: ofClass(name), name, n: numbers.get(ofClass(name)) ?? 0 }));
  return [...classes.sort((a, b) => b.n - a.n), ...kinds].filter(({ n }) => n > 0);
}

/// Classes that a line of text names.
const MOST = 8;

export function inWords(lines) {
  const classes = lines.filter(({ key }) => key.startsWith(ofClass('')));
  const left = classes.slice(MOST);
  const named = lines.filter((line) => !left.includes(line)).map(({ name, n }) => `${name} ${count(n)}`);
  if (left.length) named.splice(MOST, 0, `${count(left.length)} more classes ${count(left.reduce((sum, { n }) => sum + n, 0))}`);
  return named.join(' · ');
}

const classesOf = (images) => [...new Set(images.flatMap(({ result }) => Object.keys(result?.probabilities ?? {})))];

const BEFORE = ['file', 'label', 'probability'];
const AFTER = ['abstained', 'error'];

/// All of it as CSV (RFC 4180): a row for each image, a column for each class. `abstained` is about the threshold.
export function sheet(images, threshold) {
  const classes = classesOf(images);
  const own = new Set([...BEFORE, ...AFTER]);
  const rows = images.map(({ name, result, error, sent }) => [name, result?.label, result?.probability, ...classes.map((one) => result?.probabilities[one]),
    result && isUndecided(result, threshold), result ? null : error ?? (sent ? 'not answered yet' : 'not asked yet')]);
  const head = [...BEFORE, ...classes.map((name) => (own.has(name) ? `${name} (class)` : name)), ...AFTER];
  return [head, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}

/// What a spreadsheet would take for a formula is made a text: names of files come from others.
function cell(value) {
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? '');
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
