// What sheets can name, by the server's rules: images and classes; and the keys of classes. Knows no page, so that node's tests can import it.

import { plural } from './format.js';
import { extension, normalisedPath } from './zip.js';

// The server's limits (src/dataset): bytes of a name, and how many classes there may be.
const MOST_BYTES = 1024;
const MOST_CLASSES = 1000;

/// Those of an archive's images that a row of a sheet can name, by the server's rules: no two of one path, no line break or
/// space at an end, not too long. The others stay without label.
export function nameable(images) {
  const paths = images.map(({ name }) => normalisedPath(name));
  const times = new Map();
  for (const path of paths) times.set(path, (times.get(path) ?? 0) + 1);
  return images.filter(({ name }, at) => times.get(paths[at]) === 1 && name === name.trim() && !/[\r\n]/.test(name) && bytes(name) <= MOST_BYTES);
}

/// Bytes of a data set's name.
const MOST_NAME = 64;

/// The name itself, or with the first number behind it that makes one that is not taken: `faces-2`.
export function freeName(name, taken) {
  if (!taken.has(name)) return name;
  // A year, a month or a day is no number of ours.
  const [, stem, number] = /^(.*?)(?:(?<!-\d\d|(?:^|-)\d{4})-([2-9]|[1-9]\d))?$/.exec(name);
  for (let next = Number(number ?? 1) + 1; ; next += 1) {
    const other = `${stem.slice(0, MOST_NAME - String(next).length - 1)}-${next}`;
    if (!taken.has(other)) return other;
  }
}

/// Endings that a line names.
const ENDINGS = 5;

/// A line on files that are no images to label, by their endings; nothing where there are none.
export function unusedFiles(names) {
  if (!names.length) return null;
  const times = new Map();
  for (const name of names) times.set(extension(name), (times.get(extension(name)) ?? 0) + 1);
  const sorted = [...times].sort((a, b) => b[1] - a[1]).map(([ending, number]) => `${number} ${ending ? `.${ending}` : 'without an ending'}`);
  const more = sorted.length > ENDINGS ? [`and ${plural(sorted.length - ENDINGS, 'more kind')}`] : [];
  const what = [...sorted.slice(0, ENDINGS), ...more].join(', ');
  return `${plural(names.length, 'file')} of the ZIP ${names.length === 1 ? 'is' : 'are'} not used: ${what}. Only JPEG, PNG and WebP are: export photos of another kind as JPEG, and zip them again.`;
}

/// Tells archives of as many images apart, whatever they are called.
export function fingerprint(images) {
  return images.reduce((hash, { crc }) => Math.imul(hash ^ crc, 16777619), 2166136261) >>> 0;
}

/// The classes that a text names, one on each line or between commas, and what is wrong with them.
export function classNames(text) {
  const cells = text.split(/[\n,]/).map((part) => part.trim()).filter(Boolean);
  const names = cells.map(normalisedLabel);
  const twice = names.find((name, at) => names.indexOf(name) < at);
  const long = names.find((name) => bytes(name) > MOST_BYTES);
  let problem = null;
  if (cells.some(isGap)) problem = '“nan” means that there is no label: choose another word';
  else if (twice !== undefined) problem = `“${twice}” is there twice: each class once`;
  else if (long !== undefined) problem = `“${long.slice(0, 40)}…” is too long: a class may have ${MOST_BYTES} bytes`;
  else if (names.length < 2) problem = 'Two classes at least, one on each line or with commas between them';
  else if (names.length > MOST_CLASSES) problem = `${names.length} classes: ${MOST_CLASSES} at most`;
  return { names, problem };
}

/// The key of each class, null where there is none left: a digit's is that digit, as nobody shall label “1” with another; the others
/// have the digits from 1 on that are left. 0 is free where no class has it.
export function keysOf(classes) {
  const left = [...'123456789'].filter((digit) => !classes.includes(digit));
  return classes.map((name) => (/^[0-9]$/.test(name) ? name : left.shift() ?? null));
}

/// The digit that a key types; where that needs Shift, as on a French keyboard, the one that is written on it.
export function digitOf({ key, code, shiftKey }) {
  if (/^[0-9]$/.test(key)) return key;
  return shiftKey ? null : /^Digit([0-9])$/.exec(code)?.[1] ?? null;
}

export const isGap = (cell) => cell.toLowerCase() === 'nan';

/// As src/dataset/labels.rs does: a whole number loses its fraction, and accents are one character with their letter.
export function normalisedLabel(cell) {
  const whole = /^([+-]?\d+)\.0$/.exec(cell)?.[1];
  return (whole !== undefined && BigInt.asIntN(64, BigInt(whole.replace('+', ''))) === BigInt(whole.replace('+', '')) ? whole : cell).normalize('NFC');
}

const bytes = (text) => new TextEncoder().encode(text).length;
