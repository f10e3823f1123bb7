// How many of a data set's labels a job can train on, as src/dataset/split.rs divides them.

import { count, whole } from './format.js';
import { total } from './dataset-parts.js';

/// As in every preset.
const VALIDATION = 0.2;
const VALIDATION_MAX = 1000;

/// Of how many labels a preset takes at most where a job says no number; the others take all (src/train/preset.rs).
const OF_PRESET = { reference: 1000 };

/// Of a data set's labels: `validate` are held out of those that were `drawn`, `most` can be trained on. `picked` ones do not
/// validate, and train once the `left` drawn ones are used up.
export function divided({ classes, counts }, { validation, validation_max: max } = {}) {
  const share = validation > 0 && validation <= 0.99 ? validation : VALIDATION;
  const bound = max >= 2 ? max : VALIDATION_MAX;
  const all = total(counts.train);
  const picked = counts.picked ?? 0;
  const drawn = all - picked;
  // Each class validates with one image and trains with another.
  const validate = Math.max(Math.min(Math.ceil(drawn * share - 1e-9), bound, drawn - classes.length), classes.length);
  const left = Math.max(0, drawn - validate);
  return { all, picked, drawn, validate, left, most: left + picked };
}

/// Whether a job of `config` on `set` took all labels since that was asked for: where there were fewer than its preset's number, the
/// server writes the same. Of a set that is gone nobody knows how many there were, and the preset's number is the usual one.
export function choseAll(config, set) {
  if (config.labelled !== null) return false;
  const number = OF_PRESET[config.preset];
  return number === undefined || (set != null && number <= divided(set, config).most);
}

/// What is to be known before one says how many; `config` is what else the job is given, `preset` the one that says how many where the
/// job does not: without it those are all.
export function labelsHint(set, config = {}, preset) {
  const { all, picked, validate, left, most } = divided(set, config);
  const them = picked > 0 ? 'of those that were drawn' : 'of them';
  return `Of ${count(all)} labelled training images: ${count(validate)} ${them} validate, to choose the best epoch, and at most ${count(most)} can be trained on. `
    + `Empty takes ${ofEmpty(config.labelled, preset, most)}; several as in 20, 40, 100 train them all. Those left over are used without their label.`
    + (picked > 0 ? ` ${count(picked)} were picked: drawn ones are taken first, so that picked ones count only with more than ${count(left)} labels.` : '');
}

/// How many labels an empty field stands for: what is `said` of them in another place goes before the preset's number.
function ofEmpty(said, preset, most) {
  if (said != null) return `${[said].flat().map((one) => (one === null ? 'all' : JSON.stringify(one))).join(', ')}, as “More hyper-parameters” says`;
  return said !== null && OF_PRESET[preset] < most ? `${count(OF_PRESET[preset])} of these, the preset’s number` : 'all of these';
}

/// What stands between commas.
export const parts = (text) => text.split(',').map((part) => part.trim()).filter(Boolean);

const SEVERAL = 'several with a space behind each comma, as in 20, 40, 100';
/// Points, spaces and the like between groups of three digits; a comma stands between numbers too.
const GROUPED = /^\d{1,3}([\s.'’_]\d{3})+$/;
const COMMAS = /^\d{1,3}(,\d{3})+$/;

/// The numbers of labels that a text asks for, and what is wrong with it. 12.000 is twelve thousand to many, and 12,500 one number or
/// two: one it can be only where the set has so many labels. What has no digits is the server's to refuse.
export function readLabels(text, set = null) {
  const numbers = parts(text).map((part) => (Number.isSafeInteger(whole(part)) ? whole(part) : part));
  return { numbers, problem: separated(numbers) ?? ambiguous(text, set) };
}

function separated(numbers) {
  const odd = numbers.find((one) => /^\d+[\s.'’_][\d\s.'’_]*$/.test(one));
  if (odd === undefined) return null;
  return `“${odd}” is no whole number in digits alone: write ${GROUPED.test(odd) ? odd.replace(/\D/g, '') : 'one as in 12500'}; ${SEVERAL}`;
}

function ambiguous(text, set) {
  const most = set ? total(set.counts.train) : Infinity;
  for (const word of text.split(/,?\s+|,$/)) {
    const [joined, list] = [word.replaceAll(',', ''), word.split(',')];
    if (!COMMAS.test(word)) continue;
    // Nobody writes numbers like 050.
    if (list.some((part) => /^0\d/.test(part))) return `“${word}”: write ${joined}; ${SEVERAL}`;
    if (Number(joined) <= most) return `“${word}” may be one number or ${list.length}: write ${joined}, or ${list.join(', ')} with a space behind each comma`;
  }
  return null;
}
