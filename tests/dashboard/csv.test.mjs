// src/web/csv.js: what the service writes as CSV.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { parse } from '../../src/web/csv.js';

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
