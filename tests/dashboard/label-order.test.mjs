// src/web/label-order.js: the images that the rows of a model's predictions name.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { numbersOf } from '../../src/web/label-order.js';

const numbers = (rows, names) => numbersOf(rows.map((image) => ({ image })), names.map((name) => ({ name })));

test('images are found by their paths, however they are written, or by the file’s name where that is no other’s', () => {
  const names = ['faces/a/1.jpg', 'faces/b/1.jpg', 'faces/b/2.jpg', 'caf\u00e9.png'];
  assert.deepEqual(numbers(['faces/b/1.jpg', './faces\\a\\1.jpg', 'cafe\u0301.png'], names), [1, 0, 3]);
  assert.deepEqual(numbers(['2.jpg', '1.jpg', 'b/2.jpg', '3.jpg', ''], names), [2], 'of two of one name, of some folder, or of none');
});

test('the folders that all images lie in may be left away', () => {
  const names = ['faces/a/1.jpg', 'faces/b/1.jpg', 'faces/b/2.jpg'];
  assert.deepEqual(numbers(['a/1.jpg', 'b/1.jpg', 'b/2.jpg'], names), [0, 1, 2]);
  assert.deepEqual(numbers(['y/1.jpg', 'y/y/1.jpg', '1.jpg'], ['x/y/1.jpg', 'x/y/y/1.jpg']), [0, 1, 0], 'the outermost first');
  assert.deepEqual(numbers(['b/1.jpg'], ['ab/1.jpg', 'ac/1.jpg']), [], 'folders of one beginning are not one');
});

test('the extension may be left away where it is plain which image is meant', () => {
  const names = ['faces/a/1.jpg', 'faces/b/1.png', 'faces/b/2.JPEG', 'faces/b/2.5.webp', 'faces/b/3.jpg', 'faces/b/3.png'];
  assert.deepEqual(numbers(['2', 'b/2', 'faces/b/2', '2.5', 'a/1'], names), [2, 2, 2, 3, 0]);
  assert.deepEqual(numbers(['1', '3', 'b/3', '2.png', '4'], names), [], 'that of several, another one, or none');
});
