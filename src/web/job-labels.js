// How many of a data set's labels a job can train on, as src/dataset/split.rs divides them.

import { count } from './format.js';
import { total } from './dataset-parts.js';

/// As in every preset.
const VALIDATION = 0.2;
const VALIDATION_MAX = 1000;

/// Of a data set's labels: `validate` are held out of those that were `drawn`, `most` can be trained on. `picked` ones do not
/// validate, and train once the `left` drawn ones are used up.
export function divided({ classes, counts }, { validation, validation_max: max } = {}) {
  const share = validation > 0 && validation <= 0.99 ? validation : VALIDATION;
  const bound = max >= 2 ? max : VALIDATION_MAX;
  const all = total(counts.train);
  const picked = counts.picked ?? 0;
  const drawn = all - picked;
  // Each class validates with one image and trains with another.
  const validate = Math.max(Math.min(Math.ceil(drawn * share), bound, drawn - classes.length), classes.length);
  const left = Math.max(0, drawn - validate);
  return { all, picked, drawn, validate, left, most: left + picked };
}

/// What is to be known before one says how many; `config` is what else the job is given.
export function labelsHint(set, config) {
  const { all, picked, validate, left, most } = divided(set, config);
  const them = picked > 0 ? 'of those that were drawn' : 'of them';
  return `Of ${count(all)} labelled training images: ${count(validate)} ${them} validate, to choose the best epoch, and at most ${count(most)} can be trained on. `
    + 'Empty takes all of these, several as in 20, 40, 100 train them all. Those left over are used without their label.'
    + (picked > 0 ? ` ${count(picked)} were picked: drawn ones are taken first, so that picked ones count only with more than ${count(left)} labels.` : '');
}
