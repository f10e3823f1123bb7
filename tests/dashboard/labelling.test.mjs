// src/web/labelling.js and label-names.js: the order, the decisions, and the sheets that become of them.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { classNames, digitOf, fingerprint, freeName, keysOf, nameable, unusedFiles } from '../../src/web/label-names.js';
import { newestOf, orderOf } from '../../src/web/label-order.js';
import { allStored, keyOf, load } from '../../src/web/label-storage.js';
import { SKIPPED, UNSHOWN, batch, begin, changed, decide, decided, doubts, importable, isTest, order, pick, relabel, renamed, restored, saved, sequenceOf, sheets, tally, undo } from '../../src/web/labelling.js';

const session = ({ decisions = [], ...settings } = {}) => {
  const one = begin({ classes: ['mask', 'no_mask'], task: 'mask', goal: 10, every: 4, ...settings }, 7);
  decisions.forEach((decision) => decide(one, decision));
  return one;
};
const rows = (sheet) => sheet.trimEnd().split('\r\n').slice(1);

test('the order is a permutation, the same for the same seed and another for another', () => {
  const images = order(13_000, 5);
  assert.deepEqual([...images].sort((a, b) => a - b), Array.from({ length: 13_000 }, (_, number) => number));
  assert.deepEqual(order(13_000, 5), images);
  assert.notDeepEqual(order(13_000, 6), images);
  assert.deepEqual([order(0, 1).length, [...order(1, 1)]], [0, [0]]);
});

test('the order of a seed never changes: stored decisions would stand beside other images', () => {
  assert.deepEqual([...order(10, 1)], [7, 8, 3, 2, 1, 5, 9, 4, 0, 6]);
});

test('each image is as likely as another to come first', () => {
  const times = new Array(4).fill(0);
  for (let seed = 0; seed < 4000; seed += 1) times[order(4, seed)[0]] += 1;
  // Six standard deviations.
  for (const n of times) assert.ok(Math.abs(n - 1000) < 165, `${times}`);
});

test('each session draws a seed of its own', () => {
  const seeds = new Set(Array.from({ length: 8 }, () => begin({ classes: ['a', 'b'], task: 't', goal: 1, every: 0 }).seed));
  assert.ok(seeds.size > 6);
});

test('the place alone says which images are for the test', () => {
  const places = Array.from({ length: 8 }, (_, place) => place);
  assert.deepEqual(places.filter((place) => isTest({ every: 4 }, place)), [3, 7]);
  assert.deepEqual(places.filter((place) => isTest({ every: 0 }, place)), []);
  // A skipped image keeps its place, so that nobody shifts the others by skipping.
  const skipped = tally(session({ decisions: [SKIPPED, 0, 0, 1] }));
  assert.deepEqual([skipped.train, skipped.test, skipped.classes[1].test], [2, 1, 1]);
});

test('labels are counted by class and sheet; the rest apart', () => {
  const sum = tally(session({ decisions: [0, 1, SKIPPED, 0, UNSHOWN, 0] }));
  assert.deepEqual(sum, { train: 3, test: 1, picked: 0, skipped: 1, unshown: 1, classes: [{ name: 'mask', train: 2, test: 1, picked: 0 }, { name: 'no_mask', train: 1, test: 0, picked: 0 }] });
});

test('undo takes back what a person decided, and what was passed by since', () => {
  const one = session({ decisions: [0, 1, SKIPPED, UNSHOWN, UNSHOWN] });
  assert.equal(undo(one), true);
  assert.deepEqual(one.decisions, [0, 1]);
  assert.equal(undo(one), true);
  assert.equal(undo(one), true);
  assert.equal(undo(one), false);
  assert.equal(undo(session({ decisions: [UNSHOWN] })), false);
});

test('skipped and unshown images are in neither sheet, labelled ones in one', () => {
  const names = Array.from({ length: 20 }, (_, number) => `faces/${number}.jpg`);
  const one = session({ decisions: [0, SKIPPED, 1, 1, UNSHOWN, 0, 0, SKIPPED] });
  const { train, test } = sheets(one, names);
  const at = (place) => names[order(20, one.seed)[place]];
  assert.ok(train.startsWith('image,label\r\n'));
  assert.deepEqual(rows(train), [`${at(0)},mask`, `${at(2)},no_mask`, `${at(5)},mask`, `${at(6)},mask`]);
  assert.deepEqual(rows(test), [`${at(3)},no_mask`]);
  assert.deepEqual(sheets(session({ decisions: [SKIPPED] }), names), { train: null, test: null });
  assert.equal(sheets(session({ every: 0, decisions: [0, 0, 0, 0] }), names).test, null);
});

test('picks come in the model’s order, without what was decided; their labels train and are marked', () => {
  const names = Array.from({ length: 12 }, (_, number) => `${number}.jpg`);
  const one = session({ decisions: [0, SKIPPED, 1, 1] });
  const drawn = [...order(12, one.seed)].slice(0, 4);
  const rest = [...order(12, one.seed)].slice(4);
  // One that has a label, one that nobody could tell, and four others.
  assert.equal(pick(one, [drawn[0], rest[3], drawn[1], rest[1], rest[6], rest[5]], 12), 4);
  assert.deepEqual(one.picks, { on: true, images: [rest[3], rest[1], rest[6], rest[5]], decisions: [] });
  for (const decision of [1, SKIPPED, 0]) decide(one, decision, one.picks.images[one.picks.decisions.length]);
  assert.equal(undo(one), true);
  decide(one, 1, rest[6]);
  assert.equal(one.decisions.length, 4, 'the drawn ones are as they were');
  const sum = tally(one);
  assert.deepEqual([sum.train, sum.test, sum.picked, sum.skipped, sum.classes[1]], [2, 1, 2, 2, { name: 'no_mask', train: 1, test: 1, picked: 2 }]);
  const { train, test: held } = sheets(one, names);
  assert.ok(train.startsWith('image,label,picked\r\n'));
  assert.deepEqual(rows(train), [`${names[drawn[0]]},mask,`, `${names[drawn[2]]},no_mask,`, `${names[rest[3]]},no_mask,yes`, `${names[rest[6]]},no_mask,yes`]);
  assert.deepEqual(rows(held), [`${names[drawn[3]]},no_mask`]);

  // Another model's list comes behind what was decided of the first one's, which has an end.
  assert.equal(pick(one, [rest[1], rest[0]], 12), 1);
  assert.deepEqual(one.picks.images, [rest[3], rest[1], rest[6], rest[0]]);
  decide(one, 0, rest[0]);
  const before = JSON.stringify(one);
  assert.equal(pick(one, [rest[1], rest[0]], 12, 'mask:9'), 0);
  assert.equal(JSON.stringify(one), before, 'nothing new, nothing changes');
  one.picks.on = false;

  // What chance draws later is a drawn one, and no pick any more.
  const counted = tally(one);
  decide(one, 1, rest[0]);
  assert.deepEqual([tally(one).train - counted.train, tally(one).picked - counted.picked], [1, -1]);
  assert.deepEqual([one.picks.images, one.picks.decisions], [[rest[3], rest[1], rest[6]], [1, SKIPPED, 1]]);
});

test('picks know whose order they have, and how far a batch of it is', () => {
  const one = session();
  const images = [...order(200, one.seed)].slice(100);
  pick(one, images.slice(0, 80), 200, 'mask:1');
  assert.equal(orderOf(one), 'least sure first, by mask, version 1');
  assert.deepEqual(batch(one), { done: 0, size: 50 });
  for (let times = 0; times < 60; times += 1) decide(one, 0, one.picks.images[times]);
  assert.deepEqual(batch(one), { done: 60, size: 50 });
  // Made anew, it begins again.
  pick(one, images.slice(50, 90), 200, 'mask:2');
  assert.deepEqual([one.picks.model, batch(one)], ['mask:2', { done: 0, size: 30 }]);
  const stored = JSON.parse(JSON.stringify(saved(one)));
  assert.deepEqual(restored(stored, 200), one);
  // One that is drawn after all is no pick, and the batch is as far as it was.
  decide(one, 0, one.picks.images[60]);
  one.picks.on = false;
  decide(one, 0, images[0]);
  assert.deepEqual(batch(one), { done: 1, size: 30 });
  assert.equal(orderOf(one), 'in random order');
  // A session of before there were names has none.
  delete stored.picks.model;
  assert.equal(orderOf(restored(stored, 200)), 'least sure first');
  assert.deepEqual(batch(restored({ ...stored, picks: { ...stored.picks, from: 'x' } }, 200)), { done: 60, size: 50 });
});

test('the newest version of a model', () => {
  const models = [{ name: 'age', versions: [{ version: 4 }] }, { name: 'mask', versions: [{ version: 2 }, { version: 11 }, { version: 3 }] }];
  assert.deepEqual([newestOf(models, 'mask'), newestOf(models, 'hue')], ['mask:11', undefined]);
});

test('picks are kept with the session, and one that cannot be is none', () => {
  const one = session({ decisions: [0, 1] });
  pick(one, [3, 4], 20);
  decide(one, 1, one.picks.images[0]);
  const stored = JSON.parse(JSON.stringify(saved(one)));
  assert.deepEqual(restored(stored, 20), one);
  const { picks, ...without } = stored;
  assert.deepEqual(restored(without, 20).picks, { on: false, images: [], decisions: [] }, 'it was stored before there were any');
  for (const wrong of [null, { ...picks, images: [20] }, { ...picks, images: [3, 3] }, { ...picks, decisions: [1, 1, 1] }, { ...picks, decisions: [2] }, { ...picks, on: 1 }]) {
    assert.equal(restored({ ...stored, picks: wrong }, 20), null, JSON.stringify(wrong));
  }
  const other = changed(one, { ...one, classes: ['no_mask', 'mask'] });
  assert.deepEqual([other.decisions, other.picks.decisions], [[1, 0], [0]]);
  assert.throws(() => changed(session(), { ...one, classes: ['a', 'b'] }) && changed({ ...session(), picks: one.picks }, { ...one, classes: ['mask', 'other', 'more'] }), /“no_mask” has labels already/);
});

test('cells with commas, quotes and line breaks are quoted', () => {
  const one = session({ classes: ['a "b", c', 'two\nlines'], every: 0, decisions: [0, 1] });
  const names = ['x,1.jpg', 'y"2".jpg'];
  const [first, second] = order(2, one.seed);
  const quoted = ['"x,1.jpg"', '"y""2"".jpg"'];
  assert.equal(sheets(one, names).train, `image,label\r\n${quoted[first]},"a ""b"", c"\r\n${quoted[second]},"two\nlines"\r\n`);
});

test('a session comes back as it was stored', () => {
  const one = session({ decisions: [0, SKIPPED, UNSHOWN, 1] });
  const stored = JSON.parse(JSON.stringify(saved(one)));
  assert.deepEqual(restored(stored, 4), one);
  const kept = saved(one);
  undo(one);
  assert.equal(kept.decisions.length, 4);
});

test('what is no session of this archive is not restored', () => {
  const good = saved(session({ decisions: [0, 1] }));
  assert.ok(restored(good, 2));
  const wrong = [null, 3, {}, { ...good, version: 2 }, { ...good, seed: -1 }, { ...good, classes: ['a'] }, { ...good, classes: ['a', 1] }, { ...good, decisions: [2] },
    { ...good, decisions: [0.5] }, { ...good, decisions: [-3] }, { ...good, decisions: [0, 0, 0] }, { ...good, goal: '10' }, { ...good, task: undefined }, { ...good, every: -1 }];
  for (const value of wrong) assert.equal(restored(value, 2), null, JSON.stringify(value));
  const taken = [{ image: 0, decision: 1, kind: 'train' }];
  assert.ok(restored({ ...good, version: 2, taken }, 3));
  assert.equal(restored({ ...good, version: 2, taken }, 2), null, 'more labels than images');
});

/// What a browser keeps: values by their keys' parts.
function kept(entries) {
  const items = new Map(entries.map(([parts, value]) => [`mixmatch.labels.${JSON.stringify(parts)}`, JSON.stringify(value)]));
  globalThis.localStorage = { get length() { return items.size; }, key: (at) => [...items.keys()][at] ?? null, getItem: (key) => items.get(key) ?? null };
  return [...items.keys()];
}

test('a damaged session that is stored is none, and takes no other one away', () => {
  const good = saved(session({ decisions: [0, 1] }));
  const taken = [{ image: 0, decision: 1, kind: 'train' }];
  const wrong = [{ ...good, version: 2, taken: [null] }, { ...good, version: 2, taken }, { ...good, version: 2, taken: 3 }, { ...good, picks: null }, { ...good, classes: [{}, null] }, [], 'x', null];
  const keys = kept([...wrong.map((value, at) => [[2, at], value]), [{ length: 2 }, good], [[{ toString: 1 }, 5, 2, 98], good], [['a.zip', 5, 2, 99], { ...good, file: { a: 1 }, at: 5 }]]);
  assert.deepEqual(keys.slice(0, wrong.length).map((key) => load(key, 2)), wrong.map(() => null));
  const stored = allStored();
  assert.deepEqual(stored.map(({ file, at, count, labels }) => [file, at, count, labels]).sort(), [['a ZIP', null, 2, null], ['a.zip', null, 2, null]]);
});

test('of two sessions of one archive under other names the one with the most labels goes on', () => {
  const images = ['a', 'b', 'c'].map((name, at) => ({ name, crc: at }));
  const parts = (name) => [name, 9, 3, fingerprint(images)];
  const [few, many] = kept([[parts('a.zip'), saved(session({ decisions: [0, SKIPPED, UNSHOWN] }))], [parts('b.zip'), saved(session({ decisions: [0, 1] }))]]);
  assert.equal(keyOf({ name: 'c.zip', size: 9 }, images), many);
  assert.deepEqual(allStored().map(({ key, open }) => [key, open]).sort(), [[few, false], [many, true]]);
  assert.equal(keyOf({ name: 'a.zip', size: 9 }, images), few, 'its own comes first');
});

test('settings may change, labels stay with their classes', () => {
  const one = session({ decisions: [0, 1, SKIPPED] });
  const next = changed(one, { classes: ['unclear', 'no_mask', 'mask'], task: 'm', goal: 20, every: 0 });
  assert.deepEqual([next.decisions, next.goal, next.every, next.seed], [[2, 1, SKIPPED], 20, 0, one.seed]);
  assert.throws(() => changed(one, { classes: ['mask', 'other', 'more'], task: 'm', goal: 20, every: 0 }), /“no_mask” has labels/);
  assert.throws(() => changed(one, { classes: ['other', 'without'], task: 'm', goal: 20, every: 0 }), /“mask” has labels/, 'two lines are others');
  assert.deepEqual(changed(session({ decisions: [0] }), { classes: ['mask', 'other'], task: 'm', goal: 20, every: 0 }).classes, ['mask', 'other']);
});

test('a class that alone has another name is renamed, with its labels', () => {
  assert.deepEqual(renamed(['mask', 'no_mask'], ['mask', 'no mask']), { from: 'no_mask', to: 'no mask', at: 1 });
  for (const classes of [['mask', 'no_mask'], ['no_mask', 'mask'], ['mask', 'no mask', 'other'], ['mask']]) assert.equal(renamed(['mask', 'no_mask'], classes), null);
  const one = { ...session({ decisions: [0, 1, SKIPPED, 1] }), taken: [{ image: 19, decision: 1, kind: 'test' }] };
  const next = changed(one, { ...one, classes: ['mask', 'no mask'] });
  assert.deepEqual([next.decisions, next.taken], [one.decisions, one.taken]);
  assert.match(sheets(next, Array.from({ length: 20 }, (_, number) => `${number}.jpg`)).test, /19\.jpg,no mask/);
});

test('labels that were taken over keep what they are for, and their images do not come again', () => {
  const names = Array.from({ length: 12 }, (_, number) => `${number}.jpg`);
  const one = session();
  const [first, second, third, fourth, ...rest] = order(12, one.seed);
  one.taken = [{ image: second, decision: 1, kind: 'test' }, { image: fourth, decision: 0, kind: 'picked' }, { image: rest[0], decision: SKIPPED, kind: 'train' }];
  assert.deepEqual([...sequenceOf(one, 12)], [first, third, ...rest.slice(1)]);
  [0, 1, 1, 0].forEach((decision) => decide(one, decision));
  const sum = tally(one);
  assert.deepEqual([sum.train, sum.test, sum.picked, sum.skipped], [3, 2, 1, 1]);
  assert.equal(pick(one, [first, second, fourth, rest[5]], 12), 1);
  const made = sheets(one, names);
  assert.deepEqual(rows(made.train), [`${first}.jpg,mask,`, `${third}.jpg,no_mask,`, `${rest[1]}.jpg,no_mask,`, `${fourth}.jpg,mask,yes`]);
  assert.deepEqual(rows(made.test), [`${second}.jpg,no_mask`, `${rest[2]}.jpg,mask`]);

  const stored = JSON.parse(JSON.stringify(saved(one)));
  assert.deepEqual(restored(stored, 12), one);
  assert.equal(stored.version, 2, 'a page that knows nothing of them must not read it: it would put labels beside other images');
  for (const taken of [undefined, [null], [{ ...one.taken[0], image: 12 }], [one.taken[0], one.taken[0]], [{ ...one.taken[0], decision: 2 }], [{ ...one.taken[0], kind: 'both' }]]) {
    assert.throws(() => assert.ok(restored({ ...stored, taken }, 12)), JSON.stringify(taken));
  }
});

test('a decision may be another one later, and is for what it was', () => {
  const one = session({ decisions: [0, SKIPPED, 1, 1] });
  one.taken = [{ image: 19, decision: 1, kind: 'test' }];
  const sequence = sequenceOf(one, 20);
  pick(one, [sequence[9]], 20);
  decide(one, 0, sequence[9]);
  const all = decided(one, 20);
  assert.deepEqual(all.map(({ image, decision, kind }) => [image, decision, kind]), [[19, 1, 'test'], [sequence[0], 0, 'train'], [sequence[1], SKIPPED, 'train'],
    [sequence[2], 1, 'train'], [sequence[3], 1, 'test'], [sequence[9], 0, 'picked']]);
  for (const at of [0, 2, 5]) relabel(one, all[at], all[at].decision === 1 ? 0 : 1);
  assert.deepEqual(decided(one, 20).map(({ decision }) => decision), [0, 0, 1, 1, 1, 1]);
  assert.deepEqual(decided(one, 20).map(({ image, kind }) => [image, kind]), all.map(({ image, kind }) => [image, kind]));
});

test('a name that is taken gets the next number', () => {
  const taken = new Set(['faces', 'faces-2', 'faces-2026', 'x'.repeat(64)]);
  assert.deepEqual(['others', 'faces', 'faces-2', 'faces-2026', 'x'.repeat(64)].map((name) => freeName(name, taken)), ['others', 'faces-3', 'faces-3', 'faces-2026-2', `${'x'.repeat(62)}-2`]);
  const dates = ['photos-2024-05-01', 'photos-2024-05-12', 'set-9'];
  assert.deepEqual(dates.map((name) => freeName(name, new Set(dates))), ['photos-2024-05-01-2', 'photos-2024-05-12-2', 'set-10'], 'a date is no number of ours');
  const months = ['photos-2024-12', '2024-11', 'set-100', 'set-1'];
  assert.deepEqual(months.map((name) => freeName(name, new Set(months))), months.map((name) => `${name}-2`));
});

test('files that are no images to label are told by their endings', () => {
  assert.equal(unusedFiles([]), null);
  assert.match(unusedFiles(['a.HEIC']), /^1 file of the ZIP is not used: 1 \.heic\. Only JPEG/);
  assert.match(unusedFiles(['a.heic', 'b/b.HEIC', 'c.mp4', 'README']), /^4 files of the ZIP are not used: 2 \.heic, 1 \.mp4, 1 without an ending\. /);
  assert.match(unusedFiles(['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((ending) => `x.${ending}`)), /1 \.e, and 2 more kinds\./);
});

test('classes are told apart as the server does', () => {
  assert.deepEqual(classNames(' mask , no_mask\n\n other\r\n'), { names: ['mask', 'no_mask', 'other'], problem: null });
  assert.deepEqual(classNames('1.0, 0\nv1.0').names, ['1', '0', 'v1.0']);
  for (const [text, problem] of [
    ['', /Two classes/], ['one', /Two classes/], ['a\na', /“a” is there twice/], ['1, 1.0', /“1” is there twice/],
    ['cafe\u0301, caf\u00e9', /twice/], ['a, NaN', /“nan”/], [`a, ${'é'.repeat(600)}`, /too long/], [Array.from({ length: 1001 }, (_, n) => `c${n}`).join(), /1000 at most/],
  ]) assert.match(classNames(text).problem, problem, text);
  // Beyond 64 bits it is no whole number for the server.
  assert.deepEqual(classNames('99999999999999999999.0, -5.0').names, ['99999999999999999999.0', '-5']);
});

test('images that a sheet cannot name are left out', () => {
  const images = ['a.jpg', './b.jpg', 'b.jpg', 'f/c.jpg', 'f\\c.jpg', ' d.jpg', 'e\n.jpg', `${'x'.repeat(1100)}.jpg`, 'g/a.jpg'].map((name) => ({ name }));
  assert.deepEqual(nameable(images).map(({ name }) => name), ['a.jpg', 'g/a.jpg']);
});

test('archives of other images have another fingerprint', () => {
  const of = (...crcs) => fingerprint(crcs.map((crc) => ({ crc })));
  assert.equal(of(1, 2, 3), of(1, 2, 3));
  assert.notEqual(of(1, 2, 3), of(1, 3, 2));
  assert.notEqual(of(1, 2, 3), of(1, 2, 4));
});

test('doubts tell of classes and splits that are too small, and end when they are not', () => {
  const many = (n) => Array.from({ length: n }, (_, number) => number % 2);
  const few = doubts(session({ decisions: [0, 0, 1] }));
  assert.equal(few.length, 3);
  assert.match(few[0], /Fewer than two training labels: “no_mask”\./);
  assert.match(few[1], /A fifth of the training labels, 1 so far.* 246 training labels/);
  assert.match(few[2], /test sheet/);
  assert.match(doubts(session({ every: 0, decisions: many(245) }))[0], /49 so far/);
  assert.deepEqual(doubts(session({ decisions: many(400) })), []);
  const none = doubts(session({ classes: Array.from({ length: 9 }, (_, n) => `c${n}`), decisions: [0, 0] }));
  assert.match(none[0], /Two classes need a training label/);
  assert.match(none[1], /“c1”.*“c5” and 3 more/);
});

test('two classes with a training label are wanted for an import', () => {
  assert.equal(importable(tally(session({ decisions: [0, 0, 0, 1] }))), false);
  assert.equal(importable(tally(session({ decisions: [0, 1] }))), true);
});

test('a class that is a digit has that key, and the others those that are left', () => {
  assert.deepEqual(keysOf(['mask', 'no_mask']), ['1', '2']);
  assert.deepEqual(keysOf(['0', '1']), ['0', '1']);
  assert.deepEqual(keysOf(['2', '1', '0']), ['2', '1', '0']);
  assert.deepEqual(keysOf(['none', '1', '2', 'more', '10']), ['3', '1', '2', '4', '5']);
  assert.deepEqual(keysOf([...'0123456789']), [...'0123456789']);
  assert.deepEqual(keysOf([...'abcdefghijk', '9']), [...'12345678', null, null, null, '9']);
});

test('a digit that needs Shift is told by the key that it is written on', () => {
  assert.equal(digitOf({ key: '7', code: 'Numpad7' }), '7');
  assert.equal(digitOf({ key: '&', code: 'Digit1' }), '1');
  assert.equal(digitOf({ key: '!', code: 'Digit1', shiftKey: true }), null);
  assert.equal(digitOf({ key: 'à', code: 'Digit0' }), '0');
  // Another layout has its digits elsewhere.
  assert.equal(digitOf({ key: '7', code: 'Digit1' }), '7');
  assert.equal(digitOf({ key: 'a', code: 'KeyQ' }), null);
});
