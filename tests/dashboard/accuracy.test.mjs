// src/web/accuracy.js and job-warnings.js: what says how far a run is to be trusted.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { ofTest, ofValidation, trust, wilson } from '../../src/web/accuracy.js';
import { sentences } from '../../src/web/job-warnings.js';

const near = (found, wanted) => found.forEach((end, at) => assert.ok(Math.abs(end - wanted[at]) < 1e-6, `${found}`));

test('the interval of validation images is reckoned as the server reckons that of test images', () => {
  // What the server answered for 738 of 800.
  near(wilson(738 / 800, 800), [0.9018869353, 0.9390749143]);
  near(wilson(1, 10), [0.7224672, 1]);
  near(wilson(0, 10), [0, 0.2775328]);
});

test('an accuracy has its interval and its images in words, as far as they are known', () => {
  const validation = ofValidation({ validation_accuracy: 0.5, validation_images: 10 });
  assert.equal(trust(validation), '23.7\u202f% to 76.3\u202f% at 95\u202f%, 10 images');
  assert.equal(trust(ofValidation({ validation_accuracy: 0.5, validation_images: 0 })), '', 'an older run does not count them');
  assert.equal(trust(ofTest({ accuracy: 0.5, accuracy_interval: [0.4, 0.6], images: 1 })), '40.0\u202f% to 60.0\u202f% at 95\u202f%, 1 image');
  assert.equal(ofValidation(null), null);
});

test('each sign of a run gone wrong has a sentence, and one of a newer server its word', () => {
  const epoch = { validation_accuracy: 0.5, validation_accuracy_raw: 0.8, warnings: ['answers_collapsed', 'guesses_collapsed', 'shares_apart', 'average_apart', 'of_tomorrow'] };
  const said = sentences(epoch, {});
  said.slice(0, 4).forEach((words) => assert.match(words, /^A.*\.$/));
  assert.match(said[3], /^Averaged weights reach 50\.0.* and raw ones 80\.0.*lags behind/);
  assert.match(sentences({ ...epoch, validation_accuracy: 0.97 }, {})[3], /jump about/);
  assert.equal(said[4], 'of_tomorrow');
  const [answers, guesses] = sentences({ ...epoch, lambda_u: 3 }, {});
  assert.match(answers, /Lower lambda_u/);
  assert.match(guesses, /of it, lower lambda_u, raise warmup/);
  // Nothing is guessed yet, or at all, or the ramp has not begun to rise.
  for (const weight of [undefined, null, 0]) {
    const [answers, guesses] = sentences({ ...epoch, lambda_u: weight }, { align: false });
    assert.ok(answers.endsWith('Train for more steps, lower learning_rate or label more images.'), answers);
    assert.ok(guesses.endsWith('of it, raise warmup or set align.'), guesses);
  }
  // What is set already is no advice.
  const aligned = sentences({ ...epoch, lambda_u: 3 }, { align: true })[1];
  assert.ok(aligned.endsWith('of it, lower lambda_u, raise warmup or label images that are drawn at random from all.'), aligned);
  assert.deepEqual(sentences({}, {}), [], 'an older run');
});
