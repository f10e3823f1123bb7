// The state of a labelling session, and what becomes of it: two sheets. Knows no page, so that node's tests can import it.
//
// Images are shown in a random order, and each gets one decision at its place in it; a session is therefore a seed and a list of
// decisions, and plain JSON. Whether a label is for the test sheet is decided by the place alone: were it decided by the label,
// the figures of the test would be about other images than the model meets.
//
// Beside it there may be picks: images that a model is unsure of, in its order. Their labels are for training alone, and the sheet
// says that they were picked.

import { normalisedPath } from './zip.js';

// Another order, or another meaning of what is stored, is another version: labels would stand beside the wrong images.
const VERSION = 1;

/// Decisions that are no class's number.
export const SKIPPED = -1;
export const UNSHOWN = -2;

// The server's limits (src/dataset): bytes of a name, and how many classes there may be.
const MOST_BYTES = 1024;
const MOST_CLASSES = 1000;

/// Classes that a doubt names.
const NAMED = 5;

// A fifth of the labels for training validates, and from 50 images on probabilities are calibrated (README).
const VALIDATION = 5;
const CALIBRATED_FROM = 50;

export function begin({ classes, task, goal, every }, seed = crypto.getRandomValues(new Uint32Array(1))[0]) {
  return { version: VERSION, seed, classes, task, goal, every, decisions: [], picks: { on: false, images: [], decisions: [] } };
}

/// The list that is labelled now.
export const decisionsOf = (session) => (session.picks.on ? session.picks.decisions : session.decisions);

/// The session under other settings. Throws where a class goes that has labels.
export function changed(session, { classes, task, goal, every }) {
  const numbers = session.classes.map((name) => classes.indexOf(name));
  const { picks } = session;
  const lost = [...session.decisions, ...picks.decisions].find((decision) => decision >= 0 && numbers[decision] < 0);
  if (lost !== undefined) throw new Error(`“${session.classes[lost]}” has labels already: keep it, or start over`);
  const renumbered = (decisions) => decisions.map((decision) => (decision < 0 ? decision : numbers[decision]));
  return { ...session, classes, task, goal, every, decisions: renumbered(session.decisions), picks: { ...picks, decisions: renumbered(picks.decisions) } };
}

/// Which image has which place: a permutation of the numbers below `count`, the same for the same seed.
export function order(count, seed) {
  const images = Uint32Array.from({ length: count }, (_, number) => number);
  const random = generator(seed);
  for (let last = count - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [images[last], images[other]] = [images[other], images[last]];
  }
  return images;
}

/// Numbers from 0 to below 1 (mulberry32): small, and the same in every browser.
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x100000000;
  };
}

/// Decides of the next image of the list, whose number is `image`.
export function decide(session, decision, image) {
  decisionsOf(session).push(decision);
  if (session.picks.on) return;
  // Drawn after all: it is no pick any more.
  const { images, decisions } = session.picks;
  const at = images.indexOf(image);
  if (at < 0) return;
  images.splice(at, 1);
  if (at < decisions.length) decisions.splice(at, 1);
}

/// Asks for these images, of `count`, from now on, in this order; says how many there are of which nothing was decided.
export function pick(session, images, count) {
  const { picks } = session;
  const sequence = order(count, session.seed);
  picks.images.length = picks.decisions.length;
  const known = new Set([...session.decisions.map((_, place) => sequence[place]), ...picks.images]);
  picks.images.push(...images.filter((image) => !known.has(image)));
  const left = picks.images.length - picks.decisions.length;
  picks.on = left > 0;
  return left;
}

/// Takes the last decision back, and whatever nobody decided since; false where there is none.
export function undo(session) {
  const decisions = decisionsOf(session);
  const last = decisions.findLastIndex((decision) => decision !== UNSHOWN);
  if (last < 0) return false;
  decisions.length = last;
  return true;
}

/// Every n-th place is for the test sheet; with 0 none is.
export const isTest = ({ every }, place) => every > 0 && place % every === every - 1;

/// How many labels there are, by sheet and by class and sheet, and how many images have none. Picked ones are counted apart from
/// those that were drawn for the training sheet.
export function tally(session) {
  const sum = { train: 0, test: 0, picked: 0, skipped: 0, unshown: 0, classes: session.classes.map((name) => ({ name, train: 0, test: 0, picked: 0 })) };
  const add = (decision, kind) => {
    if (decision === SKIPPED) sum.skipped += 1;
    else if (decision === UNSHOWN) sum.unshown += 1;
    else {
      sum[kind] += 1;
      sum.classes[decision][kind] += 1;
    }
  };
  session.decisions.forEach((decision, place) => add(decision, isTest(session, place) ? 'test' : 'train'));
  session.picks.decisions.forEach((decision) => add(decision, 'picked'));
  return sum;
}

/// Whether the server can make a data set of this: it wants two classes in the training sheet.
export const importable = (sum) => sum.classes.filter(({ train }) => train > 0).length >= 2;

/// What is to be known before one trains on these labels.
export function doubts(session, sum = tally(session)) {
  const list = importable(sum) ? [] : ['Two classes need a training label before there can be a data set.'];
  const few = sum.classes.filter(({ train }) => train < 2).map(({ name }) => `“${name}”`);
  if (few.length) {
    const more = few.length > NAMED ? ` and ${few.length - NAMED} more` : '';
    list.push(`Fewer than two training labels: ${few.slice(0, NAMED).join(', ')}${more}. A class needs one to learn from and one to validate with.`);
  }
  const validation = Math.ceil(sum.train / VALIDATION);
  if (validation < CALIBRATED_FROM) {
    list.push(`A fifth of the training labels, ${validation} so far, validates: below ${CALIBRATED_FROM} nothing is calibrated. ${(CALIBRATED_FROM - 1) * VALIDATION + 1} training labels are enough.`);
  }
  if (sum.test === 0) list.push('No label is for the test sheet so far: no figure would come from images that nobody trained on.');
  return list;
}

/// The sheets as CSV, of the labelled images alone; null for one without rows. `names` are the images' paths. Where there are picks
/// the training sheet says which they are.
export function sheets(session, names) {
  const images = order(names.length, session.seed);
  const rows = { train: [], test: [] };
  session.decisions.forEach((decision, place) => {
    if (decision >= 0) rows[isTest(session, place) ? 'test' : 'train'].push([names[images[place]], session.classes[decision]]);
  });
  const picks = session.picks.decisions.flatMap((decision, at) => (decision >= 0 ? [[names[session.picks.images[at]], session.classes[decision], 'yes']] : []));
  const train = picks.length ? csv([...rows.train.map((row) => [...row, '']), ...picks], ['picked']) : csv(rows.train);
  return { train, test: csv(rows.test) };
}

const csv = (rows, more = []) => (rows.length ? [['image', 'label', ...more], ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('') : null);

/// RFC 4180.
const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/// Those of an archive's images that a row of a sheet can name, by the server's rules: no two of one path, no line break or
/// space at an end, not too long. The others stay without label.
export function nameable(images) {
  const paths = images.map(({ name }) => normalisedPath(name));
  const times = new Map();
  for (const path of paths) times.set(path, (times.get(path) ?? 0) + 1);
  return images.filter(({ name }, at) => times.get(paths[at]) === 1 && name === name.trim() && !/[\r\n]/.test(name) && bytes(name) <= MOST_BYTES);
}

/// Tells archives of one name and size apart.
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

const isGap = (cell) => cell.toLowerCase() === 'nan';

/// As src/dataset/labels.rs does: a whole number loses its fraction, and accents are one character with their letter.
function normalisedLabel(cell) {
  const whole = /^([+-]?\d+)\.0$/.exec(cell)?.[1];
  return (whole !== undefined && BigInt.asIntN(64, BigInt(whole.replace('+', ''))) === BigInt(whole.replace('+', '')) ? whole : cell).normalize('NFC');
}

const bytes = (text) => new TextEncoder().encode(text).length;

const whole = (number, least, most) => Number.isInteger(number) && number >= least && number <= most;

/// What to store; `restored` reads it.
export const saved = (session) => ({ ...session, decisions: [...session.decisions] });

/// Picks that were stored; a session of before there were any has none.
function restoredPicks(value, count, classes) {
  if (value === undefined) return { on: false, images: [], decisions: [] };
  const { on, images, decisions } = value ?? {};
  const sound = typeof on === 'boolean' && Array.isArray(images) && Array.isArray(decisions) && decisions.length <= images.length
    && images.every((image) => whole(image, 0, count - 1)) && new Set(images).size === images.length
    && decisions.every((decision) => whole(decision, UNSHOWN, classes - 1));
  return sound ? { on, images: [...images], decisions: [...decisions] } : null;
}

/// The session that was stored, for an archive of `count` images; null where it is none, or of another version.
export function restored(value, count) {
  if (value?.version !== VERSION) return null;
  const { seed, classes, task, goal, every, decisions } = value;
  const sound = whole(seed, 0, 0xffffffff) && typeof task === 'string' && whole(goal, 1, Infinity) && whole(every, 0, Infinity)
    && Array.isArray(classes) && classes.length >= 2 && classes.every((name) => typeof name === 'string')
    && Array.isArray(decisions) && decisions.length <= count && decisions.every((decision) => whole(decision, UNSHOWN, classes.length - 1));
  const picks = sound && restoredPicks(value.picks, count, classes.length);
  return picks ? { version: VERSION, seed, classes: [...classes], task, goal, every, decisions: [...decisions], picks } : null;
}
