// How far an accuracy is to be trusted: its interval, and of how many images it is.

import { h } from './dom.js';
import { fixed, percent, plural } from './format.js';

const Z = 1.959963984540054;

/// The Wilson score interval of a share of `n` images at 95 %, as the server has it for the test images.
export function wilson(share, n) {
  const middle = share + Z ** 2 / (2 * n);
  const half = Z * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
  return [middle - half, middle + half].map((end) => Math.min(1, Math.max(0, end / (1 + Z ** 2 / n))));
}

export const range = ([low, high]) => `${percent(low)} to ${percent(high)}`;

/// Of the images of an epoch, which an older run does not count: `{ accuracy, interval, images }`; null without an epoch.
export function ofValidation(epoch) {
  if (epoch?.validation_accuracy == null) return null;
  const { validation_accuracy: accuracy, validation_images: images } = epoch;
  return { accuracy, images: images > 0 ? images : null, interval: images > 0 ? wilson(accuracy, images) : null };
}

export const ofTest = (test) => (test ? { accuracy: test.accuracy, images: test.images, interval: test.accuracy_interval } : null);

/// What stands below an accuracy in words.
export const trust = ({ interval, images }) => [interval && `${range(interval)} at 95\u202f%`, images != null && plural(images, 'image')].filter(Boolean).join(', ');

/// An accuracy in a table's cell, with that below it.
function cell(figure) {
  if (!figure) return '–';
  const { accuracy, interval, images } = figure;
  return h('div', null, percent(accuracy), interval && h('div', { class: 'trust', title: 'the interval at 95 % (Wilson), and of how many images' },
    h('span', null, `${fixed(100 * interval[0], 1)}–${percent(interval[1])}`), ' ', images != null && h('span', null, plural(images, 'image'))));
}

export const testAccuracy = (test) => cell(ofTest(test));
export const validationAccuracy = (epoch) => cell(ofValidation(epoch));
