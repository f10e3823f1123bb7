// src/web/csv.js: what the service writes as CSV.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { MARK, parse, separatorOf } from '../../src/web/csv.js';

test('rows come by the names of the header, quoted or not', () => {
  const text = 'image,label,group\n"7, at ""noon"".jpg",,3\r\nb.jpg,"two\nlines",\n';
  assert.deepEqual(parse(text), [
    { image: '7, at "noon".jpg', label: '', group: '3' },
    { image: 'b.jpg', label: 'two\nlines', group: '' },
  ]);
  assert.deepEqual(parse('image,label\na.jpg,x'), [{ image: 'a.jpg', label: 'x' }], 'the last line may have no end');
  assert.deepEqual(parse('image\n'), []);
  assert.deepEqual(parse(''), []);
});

test('what a spreadsheet program has saved again is read by its own separator', () => {
  for (const sign of [',', ';', '\t', '|']) {
    const text = `\r\nimage${sign}label\r\n"a${sign}1.jpg"${sign}x, y\r\n`.replace('x, y', sign === ',' ? 'x' : 'x, y');
    assert.equal(separatorOf(text), sign);
    assert.deepEqual(parse(text, sign), [{ image: `a${sign}1.jpg`, label: sign === ',' ? 'x' : 'x, y' }]);
  }
  assert.equal(separatorOf('image'), ',');
});

test('Excel’s first line tells the separator and is no row, and lines may end with a CR alone', () => {
  for (const sign of [',', ';', '\t', '|', '^', ']', '.']) {
    const text = `sep=${sign}\r\nimage${sign}label\r\na${sign}"x, y; z"\r\n`;
    assert.equal(separatorOf(text), sign);
    assert.deepEqual(parse(text, sign), [{ image: 'a', label: 'x, y; z' }], sign);
  }
  assert.deepEqual(parse('sep=;\na\n'), [{ 'sep=;': 'a' }], 'where another one was asked for it is a header');
  const old = 'image;label, more\ra.jpg;"two\rlines"\r\rb.jpg;x\r';
  assert.equal(separatorOf('image;label\ra,b,c;x\r'), ';', 'of the first line alone');
  assert.deepEqual(parse(old, ';'), [{ image: 'a.jpg', 'label, more': 'two\rlines' }, { image: 'b.jpg', 'label, more': 'x' }]);
});

test('the mark before a download for Excel is no part of the header', () => {
  assert.deepEqual([...new TextEncoder().encode(MARK)], [0xef, 0xbb, 0xbf]);
  assert.deepEqual(parse(`${MARK}image,label\r\nÜbung.jpg,x\r\n`), [{ image: 'Übung.jpg', label: 'x' }]);
  assert.deepEqual(parse(`${MARK}"image";label\r\na.jpg;x\r\n`, separatorOf(`${MARK}"image";label\r\n`)), [{ image: 'a.jpg', label: 'x' }]);
});
