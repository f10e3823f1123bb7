// The state of a labelling session, and what becomes of it: two sheets. Knows no page, so that node's tests can import it.
//
// Images are shown in a random order, and each gets one decision at its place in it; a session is therefore a seed and a list of
// decisions, and plain JSON. Whether a label is for the test sheet is decided by the place alone: were it decided by the label,
// the figures of the test would be about other images than the model meets.
//
// Beside it there may be picks: images that a model is unsure of, in its order. Their labels are for training alone, and the sheet
// says that they were picked. And there may be labels that were taken over from another archive, or from sheets: each knows its
// image and which sheet it is for, and the random order passes its image by.

// Another order, or another meaning of what is stored, is another version: labels would stand beside the wrong images. Of labels
// that were taken over the first one knows nothing.
const VERSION = 1;
const WITH_TAKEN = 2;

/// Decisions that are no class's number.
export const SKIPPED = -1;
export const UNSHOWN = -2;

/// What a label can be for.
export const KINDS = ['train', 'test', 'picked'];

/// Classes that a doubt names.
const NAMED = 5;

// A fifth of the labels for training validates, and from 50 images on probabilities are calibrated (README).
const VALIDATION = 5;
const CALIBRATED_FROM = 50;

export function begin({ classes, task, goal, every }, seed = crypto.getRandomValues(new Uint32Array(1))[0]) {
  return { version: VERSION, seed, classes, task, goal, every, decisions: [], picks: { on: false, images: [], decisions: [] }, taken: [] };
}

/// The list that is labelled now.
export const decisionsOf = (session) => (session.picks.on ? session.picks.decisions : session.decisions);

/// The class that has another name under other classes: as many as before, and all but one as they were. Null where it is not so.
export function renamed(before, classes) {
  const other = before.flatMap((name, at) => (name === classes[at] ? [] : [at]));
  return before.length === classes.length && other.length === 1 ? { from: before[other[0]], to: classes[other[0]], at: other[0] } : null;
}

/// The session under other settings; the labels of a class that is renamed are of its new name. Throws where a class goes that has
/// labels.
export function changed(session, { classes, task, goal, every }) {
  const other = renamed(session.classes, classes);
  const numbers = session.classes.map((name, at) => (at === other?.at ? at : classes.indexOf(name)));
  const { picks, taken } = session;
  const lost = [...session.decisions, ...picks.decisions, ...taken.map(({ decision }) => decision)].find((decision) => decision >= 0 && numbers[decision] < 0);
  if (lost !== undefined) throw new Error(`“${session.classes[lost]}” has labels already: keep it, rename it alone, or start over`);
  const renumbered = (decision) => (decision < 0 ? decision : numbers[decision]);
  return {
    ...session, classes, task, goal, every, decisions: session.decisions.map(renumbered), picks: { ...picks, decisions: picks.decisions.map(renumbered) },
    taken: taken.map((one) => ({ ...one, decision: renumbered(one.decision) })),
  };
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

/// The random order as the session asks for it: what was taken over has its label.
export function sequenceOf(session, count) {
  const images = order(count, session.seed);
  if (!session.taken.length) return images;
  const taken = new Set(session.taken.map(({ image }) => image));
  return images.filter((image) => !taken.has(image));
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
  if (at < session.picks.from) session.picks.from -= 1;
}

/// Asks for these images, of `count`, from now on, in this order, which is the one of `model`; says of how many of them nothing was
/// decided. Where there are none all stays as it is.
export function pick(session, images, count, model) {
  const { picks } = session;
  const sequence = sequenceOf(session, count);
  const labelled = picks.images.slice(0, picks.decisions.length);
  const known = new Set([...session.decisions.map((_, place) => sequence[place]), ...labelled, ...session.taken.map(({ image }) => image)]);
  const next = images.filter((image) => !known.has(image));
  if (next.length) Object.assign(picks, { on: true, images: [...labelled, ...next] }, model && { model, from: labelled.length });
  return next.length;
}

/// So many picks, and the model may learn from them: it is unsure of other images then.
const BATCH = 50;

/// How far the picks are in the order that they have now, and how many of them are worth labelling before it is made anew.
export function batch({ picks: { from = 0, images, decisions } }) {
  return { done: Math.max(0, decisions.length - from), size: Math.min(BATCH, images.length - from) };
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

/// All decisions, each with its image's number and with what it is for: `train`, `test` or `picked`. `relabel` takes one of them.
export function decided(session, count) {
  const images = sequenceOf(session, count);
  const { picks } = session;
  return [
    ...session.taken.map((one, at) => ({ ...one, of: 'taken', at })),
    ...session.decisions.map((decision, at) => ({ image: images[at], decision, kind: isTest(session, at) ? 'test' : 'train', of: 'drawn', at })),
    ...picks.decisions.map((decision, at) => ({ image: picks.images[at], decision, kind: 'picked', of: 'picks', at })),
  ];
}

/// Decides anew of an image; what it is for it is for still.
export function relabel(session, { of, at }, decision) {
  if (of === 'taken') session.taken[at].decision = decision;
  else (of === 'picks' ? session.picks.decisions : session.decisions)[at] = decision;
}

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
  session.taken.forEach(({ decision, kind }) => add(decision, kind));
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
  const labelled = decided(session, names.length).filter(({ decision }) => decision >= 0);
  const rows = (wanted, ...more) => labelled.filter(({ kind }) => kind === wanted).map(({ image, decision }) => [names[image], session.classes[decision], ...more]);
  const picks = rows('picked', 'yes');
  return { train: picks.length ? csv([...rows('train', ''), ...picks], ['picked']) : csv(rows('train')), test: csv(rows('test')) };
}

const csv = (rows, more = []) => (rows.length ? [['image', 'label', ...more], ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('') : null);

/// RFC 4180.
const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

const whole = (number, least, most) => Number.isInteger(number) && number >= least && number <= most;

/// What to store; `restored` reads it.
export function saved({ taken, ...session }) {
  return { ...session, decisions: [...session.decisions], ...(taken.length > 0 && { version: WITH_TAKEN, taken }) };
}

/// Picks that were stored; a session of before there were any has none.
function restoredPicks(value, count, classes) {
  if (value === undefined) return { on: false, images: [], decisions: [] };
  const { on, images, decisions, model, from } = value ?? {};
  const sound = typeof on === 'boolean' && Array.isArray(images) && Array.isArray(decisions) && decisions.length <= images.length
    && images.every((image) => whole(image, 0, count - 1)) && new Set(images).size === images.length
    && decisions.every((decision) => whole(decision, UNSHOWN, classes - 1));
  const order = sound && typeof model === 'string' && whole(from, 0, images.length) ? { model, from } : {};
  return sound ? { on, images: [...images], decisions: [...decisions], ...order } : null;
}

/// Labels that were taken over; null where they are none of this archive.
function restoredTaken({ version, taken }, count, classes) {
  if (version === VERSION) return [];
  const sound = Array.isArray(taken) && taken.every(({ image, decision, kind }) => whole(image, 0, count - 1) && whole(decision, SKIPPED, classes - 1) && KINDS.includes(kind))
    && new Set(taken.map(({ image }) => image)).size === taken.length;
  return sound ? taken.map(({ image, decision, kind }) => ({ image, decision, kind })) : null;
}

/// The session that was stored, for an archive of `count` images; null where it is none, or of another version.
export function restored(value, count) {
  if (![VERSION, WITH_TAKEN].includes(value?.version)) return null;
  const { seed, classes, task, goal, every, decisions } = value;
  const sound = whole(seed, 0, 0xffffffff) && typeof task === 'string' && whole(goal, 1, Infinity) && whole(every, 0, Infinity)
    && Array.isArray(classes) && classes.length >= 2 && classes.every((name) => typeof name === 'string')
    && Array.isArray(decisions) && decisions.length <= count && decisions.every((decision) => whole(decision, UNSHOWN, classes.length - 1));
  const picks = sound && restoredPicks(value.picks, count, classes.length);
  const taken = sound && restoredTaken(value, count, classes.length);
  const fits = picks && taken && decisions.length <= count - taken.length;
  return fits ? { version: VERSION, seed, classes: [...classes], task, goal, every, decisions: [...decisions], picks, taken } : null;
}
