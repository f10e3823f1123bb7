// What looked wrong when the epoch ended whose weights were taken: a sentence for each sign of `train::event::EpochWarning`.

import { h } from './dom.js';
import { percent } from './format.js';

const SENTENCES = {
  // A supervised run and a warm-up have no lambda_u: what is set of the guesses mends nothing there.
  answers_collapsed: ({ lambda_u: weight }) => `A class that the labels have is hardly answered on the validation images. ${weight > 0
    ? 'Lower lambda_u, raise ramp or warmup, or label more images.' : 'Train for more steps, lower learning_rate or label more images.'}`,
  guesses_collapsed: ({ lambda_u: weight }, { align }) => `A class that the labels have is hardly guessed among the unlabelled images. Unless there really are so few of it, ${weight > 0
    ? 'lower lambda_u, raise' : 'raise'} warmup or ${align ? 'label images that are drawn at random from all' : 'set align'}.`,
  shares_apart: () => 'Among the unlabelled images the network finds other shares of the classes than the labels have, and its guesses were pulled to those of the labels (align). If the shares really are others, a run unlearns the longer it trains: label images that are drawn at random from all.',
  average_apart: ({ validation_accuracy: average, validation_accuracy_raw: raw }) => `Averaged weights reach ${percent(average)} on the validation images and raw ones ${percent(raw)}. ${average < raw
    ? 'The average lags behind: lower ema_decay or train for more steps.' : 'The weights jump about: lower learning_rate.'}`,
};

/// In words, for a job of `config`; a sign of a newer server as the word that it is.
export const sentences = (epoch, config) => (epoch.warnings ?? []).map((word) => SENTENCES[word]?.(epoch, config) ?? word);

/// A notice; nothing where all looked well.
export function warnings(epoch, config) {
  const list = epoch ? sentences(epoch, config) : [];
  return list.length > 0 && h('div', { class: 'notice warn' },
    h('p', null, h('strong', null, `Doubt at epoch ${epoch.epoch}`), ', whose weights were taken:'), h('ul', { class: 'plain' }, list.map((words) => h('li', null, words))));
}
