// Above the cards: how many images came to what, which of them are shown, and what can be done with all of them.

import { saveAs } from './api.js';
import { MARK } from './csv.js';
import { h, put } from './dom.js';
import { field } from './form.js';
import { inWords, outcome, sheet, tally } from './predict-summary.js';
import { count, plural } from './format.js';

const ALL = '';

/// What the sheet is called; of no model as long as none is chosen.
const fileOf = (model) => `${['predictions', model.replace(/[^\w.-]+/g, '-')].filter(Boolean).join('-')}.csv`;

/// `cards` is the page's list of them. `update(threshold, model)` whenever one has changed; `askAgain(cards)` asks about those.
export function predictOverview(cards, askAgain) {
  const numbers = h('p', { class: 'muted tabular anywhere' });
  const shown = field('Show', h('select'));
  const again = h('button', { type: 'button', onclick: () => {
    // The button goes with what it is for.
    shown.input.focus({ preventScroll: true });
    askAgain(cards.filter((card) => card.mayAskAgain()));
  } });
  const save = h('button', { type: 'button', onclick: () => saveAs(new Blob([MARK, sheet(said(), threshold)], { type: 'text/csv' }), fileOf(model)) }, 'Download as CSV');
  const node = h('div', { class: 'predict-overview', hidden: true }, shown.node, numbers, h('div', { class: 'actions' }, again, save));
  let [threshold, model] = [0, ''];
  let options = '';

  const said = () => cards.map((card) => card.said());
  const filter = () => {
    const wanted = shown.input.value;
    for (const card of cards) card.node.hidden = wanted !== ALL && outcome(card.said(), threshold) !== wanted;
  };
  shown.input.addEventListener('change', filter);

  /// Offers what there is, and what was wished as long as there are images.
  function offer(lines) {
    const wanted = shown.input.value;
    const kinds = lines.map(({ key, name, n }) => [key, `${name} (${count(n)})`]);
    if (wanted !== ALL && cards.length && !kinds.some(([key]) => key === wanted)) kinds.push([wanted, `${shown.input.selectedOptions[0].text.replace(/ \([\d,]+\)$/, '')} (0)`]);
    const all = [[ALL, `all (${count(cards.length)})`], ...kinds];
    if (JSON.stringify(all) === options) return;
    options = JSON.stringify(all);
    put(shown.input, all.map(([value, text]) => h('option', { value, selected: cards.length > 0 && value === wanted }, text)));
  }

  function update(at, by) {
    [threshold, model] = [at, by];
    const lines = tally(said(), threshold);
    node.hidden = cards.length === 0;
    put(numbers, inWords(lines));
    offer(lines);
    const left = cards.filter((card) => card.mayAskAgain()).length;
    again.hidden = left === 0;
    put(again, `Ask again about ${plural(left, 'image')}`);
    filter();
  }

  /// Images that come are seen, whatever was shown before.
  function showAll() {
    shown.input.value = ALL;
  }

  return { node, update, showAll };
}
