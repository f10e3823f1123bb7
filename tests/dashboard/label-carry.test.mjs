// src/web/label-carry.js: labels of another archive, or of sheets, find their images.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { carried, kindsOf, sheetLabels, takenOver } from '../../src/web/label-carry.js';
import { begin, decide, pick, sequenceOf, sheets } from '../../src/web/labelling.js';

const image = (name, crc = 0) => ({ name, crc });
const found = (labels, images) => carried(labels, images).taken.map(({ name, image: number }) => [name, number]);

test('labels are found by path and content, in whatever order the archive has its images', () => {
  const images = [image('c.jpg', 3), image('b.jpg', 2), image('a.jpg', 9)];
  const labels = [image('a.jpg', 1), image('b.jpg', 2), image('c.jpg', 3), image('d.jpg', 4)];
  assert.deepEqual(found(labels, images), [['b.jpg', 1], ['c.jpg', 0]], 'a.jpg is another picture now');
  assert.equal(carried(labels, images).missing, 2);
});

test('folders may have been added or taken away, where it is plain which image is meant', () => {
  assert.deepEqual(found([image('photos/a.jpg', 1)], [image('b/a.jpg', 2), image('a.jpg', 1)]), [['photos/a.jpg', 1]]);
  assert.deepEqual(found([image('a.jpg', 1)], [image('x/a.jpg', 1), image('y/a.jpg', 1)]), [], 'two of one content');
  // Without a content the one path has to be the other's end.
  const named = (...names) => names.map((name) => ({ name }));
  assert.deepEqual(found(named('photos/a.jpg', './b.jpg'), [image('a.jpg'), image('new\\b.jpg')]), [['photos/a.jpg', 0], ['./b.jpg', 1]]);
  assert.deepEqual(found(named('photos/a.jpg'), [image('others/a.jpg')]), []);
  assert.deepEqual(found(named('x/a.jpg', 'y/a.jpg'), [image('a.jpg')]), [], 'nobody knows which of them is');
  assert.deepEqual(found(named('x/a.jpg', 'a.jpg', 'a.jpg'), [image('a.jpg')]), [['a.jpg', 0]], 'each image once');
});

test('the sheets that were downloaded lead back to the same labels', () => {
  const names = Array.from({ length: 30 }, (_, number) => `${number}, at noon.jpg`);
  const one = begin({ classes: ['mask', 'no_mask'], task: 'mask', goal: 10, every: 4 }, 7);
  for (let at = 0; at < 12; at += 1) decide(one, at % 3 === 2 ? -1 : at % 2);
  pick(one, [...sequenceOf(one, 30)].slice(20, 24), 30);
  one.picks.images.forEach((number) => decide(one, 1, number));
  const made = sheets(one, names);
  const labels = [...sheetLabels(made.train, 'train'), ...sheetLabels(made.test, 'test')];
  assert.equal(kindsOf(labels), '6 for training, 2 for the test sheet, 4 picked');
  const taken = takenOver(carried(labels, names.map((name) => image(name))).taken, ['no_mask', 'mask']);
  const next = { ...begin({ ...one, classes: ['no_mask', 'mask'] }, 8), taken };
  assert.deepEqual(sheets(next, names), made);
  assert.throws(() => takenOver([{ image: 0, label: 'mask', kind: 'train' }], ['a', 'b']), /“mask” has labels in the sheets/);
});

test('a sheet of somebody else’s is read by its columns, or says what it lacks', () => {
  const text = 'Age,Label,IMAGE,picked\r\n3,1.0,a.jpg,x\r\n4,,b.jpg,\r\n5,nan,c.jpg,\r\n6,cat,d.jpg,no\r\n';
  assert.deepEqual(sheetLabels(text, 'train'), [{ name: 'a.jpg', label: '1', kind: 'picked' }, { name: 'd.jpg', label: 'cat', kind: 'train' }]);
  assert.deepEqual(sheetLabels(text, 'test').map(({ kind }) => kind), ['test', 'test']);
  assert.deepEqual(sheetLabels('image;label\na.jpg;cat\n', 'train'), [{ name: 'a.jpg', label: 'cat', kind: 'train' }]);
  assert.throws(() => sheetLabels('name,label\na.jpg,cat\n', 'train'), /no columns “image” and “label”/);
  assert.throws(() => sheetLabels('image,label\n', 'train'), /no row/);
  for (const end of ['\r\n', '\r', '\n']) {
    assert.deepEqual(sheetLabels(['sep=;', 'image;label', 'a.jpg;cat', ''].join(end), 'train'), [{ name: 'a.jpg', label: 'cat', kind: 'train' }], JSON.stringify(end));
  }
});

test('whether an image was picked is read as the server reads it, and asked about where nobody can tell', () => {
  const kind = (picked, sheet = 'train') => sheetLabels(`image,label,picked\na.jpg,cat,${picked}\n`, sheet)[0].kind;
  for (const yes of ['1', '1.0', 'Yes', 'TRUE', 'x', 'y']) assert.equal(kind(yes), 'picked', yes);
  for (const no of ['', '0', '0.0', 'no', 'N', 'false', 'NaN']) assert.equal(kind(no), 'train', no);
  assert.throws(() => kind('ja'), /^Error: The column “picked” says “ja”: it may be yes, no or empty$/);
  assert.equal(kind('ja', 'test'), 'test', 'of the test sheet none is');
  assert.deepEqual(sheetLabels('image,label,picked\na.jpg,cat,\nb.jpg,,ja\n', 'train').length, 1, 'a row without a label is not read');
});

test('a row that leaves open whether its image was picked takes it from another row of that image, as an import does', () => {
  const kinds = (rows, sheet = 'train') => sheetLabels(`image,label,picked\n${rows}`, sheet).map(({ kind }) => kind);
  assert.deepEqual(kinds('a.jpg,,yes\nb.jpg,cat,\n./a.jpg,cat,\n'), ['train', 'picked']);
  assert.deepEqual(kinds('a.jpg,cat,nan\na.jpg,cat,x\n'), ['picked', 'picked']);
  assert.deepEqual(kinds('a.jpg,cat,no\na.jpg,,1.0\n'), ['train'], 'it says itself that it was not');
  assert.deepEqual(kinds('a.jpg,cat,\na.jpg,,ja\na.jpg,,no\n'), ['train']);
  assert.deepEqual(kinds('a.jpg,,yes\na.jpg,cat,\n', 'test'), ['test']);
});

test('a label that the page would take for two classes is refused', () => {
  const refused = (text) => assert.throws(() => sheetLabels(text, 'train'), /^Error: The label “a[,\n]b” has a comma or a line break, .*: give it another name in the sheet$/);
  refused('image,label\nx.jpg,cat\ny.jpg,"a,b"\n');
  refused('image;label\nx.jpg;a,b\n');
  refused('image,label\nx.jpg,"a\nb"\n');
  assert.equal(sheetLabels('image,label\n"x,1.jpg",cat\n,"a,b"\n', 'train').length, 1, 'a row without an image has no label to lose');
});
