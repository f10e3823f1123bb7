// Drop images, see what a model says of them.

import { h, put, announce } from './dom.js';
import { dropZone } from './drop-zone.js';
import { field, select } from './form.js';
import { problemBox } from './problem.js';
import { allModels, isGender, genderNote } from './model-parts.js';
import { classify } from './predict-batches.js';
import { resultCard } from './predict-card.js';
import { predictOverview } from './predict-overview.js';
import { count, percent, milliseconds, plural, rate } from './format.js';
import { curlPredict, command } from './shell.js';

/// Statuses of answers that will be the same another time.
const FINAL = new Set([400, 413, 415, 422]);

export async function predict({ query, signal }) {
  const items = await allModels(signal);
  if (!items.length) {
    return h('div', null, h('h1', null, 'Predict'), h('p', null, 'No model is published yet. A ', h('a', { href: '#/jobs/new' }, 'job'), ' that succeeds publishes one.'));
  }
  const options = choices(items);
  const name = query.get('model');
  const found = wanted(options, name);
  const none = !found && h('option', { value: '' }, 'choose one');
  const model = field('Model', select(options.map(({ value, text }) => [value, text]), found?.value));
  // Another than the one that was meant is for the user to choose.
  if (none) {
    model.input.prepend(none);
    model.input.value = '';
    model.error(`There is no model ${name}: choose another`);
  }
  const slider = h('input', { type: 'range', min: 0, max: 1, step: 0.01, value: 0.5 });
  const sliderValue = h('output', null);
  const abstention = field(['Abstain below ', sliderValue], slider, 'Where the largest probability is smaller, take the answer for undecided');
  const note = h('div');
  const trouble = h('div');
  const status = h('p', { class: 'muted', role: 'status' });
  const grid = h('ul', { class: 'results' });
  const curlPlace = h('div');
  const cards = [];
  const askAgain = (these) => these.length && ask(these);
  const overview = predictOverview(cards, askAgain);

  const threshold = () => Number(slider.value);
  const tally = () => overview.update(threshold(), model.input.value);
  const isChosen = () => model.input.value !== '';
  const tellCommand = () => put(curlPlace, isChosen() && command(curlPredict(model.input.value, { threshold: threshold() })));
  const settle = () => {
    put(sliderValue, percent(threshold(), 0));
    cards.forEach((card) => card.settle(threshold()));
    tally();
    tellCommand();
  };
  slider.addEventListener('input', settle);

  const describe = () => {
    const option = options.find(({ value }) => value === model.input.value);
    put(note, option && isGender(option.name, option.classes) && genderNote());
    tellCommand();
  };
  // What the model before still answers is of no interest once another is chosen.
  let chosen = new AbortController();
  const forget = () => {
    chosen.abort();
    chosen = new AbortController();
  };
  model.input.addEventListener('change', () => {
    if (none) none.remove();
    model.error(null);
    describe();
    forget();
    if (cards.length) ask([...cards]);
  });

  function add(files) {
    const fresh = [...files].map((file) => resultCard(file, signal, (card) => askAgain([card])));
    if (!fresh.length) return;
    overview.showAll();
    cards.unshift(...fresh);
    grid.prepend(...fresh.map((card) => card.node));
    clear.hidden = false;
    ask(fresh);
  }

  let asking = 0;
  async function ask(asked) {
    if (!isChosen()) {
      asked.forEach((card) => card.wait());
      tally();
      model.error('Choose a model: the images wait for it');
      model.input.focus();
      return;
    }
    asking += 1;
    const mine = asking;
    const still = AbortSignal.any([signal, chosen.signal]);
    put(trouble);
    asked.forEach((card) => card.wait());
    tally();
    const began = performance.now();
    put(status, `Asking about ${plural(asked.length, 'image')}…`);
    const sum = { decode_ms: 0, queue_ms: 0, inference_ms: 0 };
    const tell = (error) => {
      // Of many requests one is enough.
      if (!trouble.textContent.includes(error.message)) trouble.append(problemBox(error));
    };
    let [answered, by] = [0, null];
    const onanswer = (batch, answer) => {
      batch.forEach((card, i) => card.show(answer.results[i], threshold()));
      for (const name of Object.keys(sum)) sum[name] += answer.timings[name] ?? 0;
      answered += answer.results.filter((result) => !result.problem).length;
      by = answer.model;
      tally();
    };
    const onrefusal = (batch, error) => {
      // Of several images an answer to the request says nothing of each.
      const last = (batch.length === 1 && FINAL.has(error.status)) || error.errors.some(({ place }) => place !== undefined);
      if (batch.length > 1) tell(error);
      batch.forEach((card) => (last ? card.refuse(error.message) : card.miss(error.message)));
      tally();
    };
    let why = '';
    try {
      await classify(asked, { model: model.input.value, threshold: threshold(), signal: still, onanswer, onrefusal });
    } catch (error) {
      if (still.aborted) return;
      if (error.status === undefined) console.error(error);
      why = error.message;
      tell(error);
    }
    const took = performance.now() - began;
    asked.forEach((card) => card.miss(why));
    tally();
    const without = asked.length - answered;
    announce(`${plural(answered, 'image')} classified${without ? `, ${count(without)} without an answer` : ''}`);
    if (mine === asking) put(status, answered > 0 && timings(answered, by, took, sum));
  }

  const clear = h('button', { type: 'button', hidden: true, onclick: () => {
    forget();
    cards.splice(0).forEach((card) => card.free());
    put(grid);
    put(status);
    put(trouble);
    clear.hidden = true;
    tally();
  } }, 'Clear');

  describe();
  settle();
  addEventListener('paste', (event) => add(event.clipboardData?.files ?? []), { signal });
  return h('div', null,
    h('h1', null, 'Predict'),
    h('div', { class: 'inline-fields' }, model.node, abstention.node),
    note, dropZone({ accept: 'image/jpeg,image/png,image/webp', multiple: true }, add,
      h('strong', null, 'Choose images'), ' or drop them here, or paste one', h('span', { class: 'hint' }, 'JPEG, PNG or WebP. They are classified and not kept.')), trouble,
    h('div', { class: 'section-head' }, status, clear),
    overview.node, grid,
    h('details', null, h('summary', null, 'The same with curl'), curlPlace));
}

/// Aliases first, the champion before all; then every version.
function choices(models) {
  return models.flatMap((model) => {
    const { name, aliases } = model;
    const option = (value, text, number) => ({ value, text, name, classes: model.versions.find(({ version }) => version === number)?.classes });
    const others = Object.entries(aliases).filter(([alias]) => alias !== 'champion');
    return [
      ...('champion' in aliases ? [option(name, `${name} – champion (version ${aliases.champion})`, aliases.champion)] : []),
      ...others.map(([alias, number]) => option(`${name}@${alias}`, `${name}@${alias} (version ${number})`, number)),
      ...model.versions.map(({ version }) => option(`${name}:${version}`, `${name}:${version}`, version)),
    ];
  });
}

/// The one that an address asks for, the first where it asks for none; undefined where that is gone.
function wanted(options, text) {
  if (!text) return options[0];
  const asked = text.replace(/@champion$/, '');
  // A model that has lost its champion is still the one that was asked for.
  return options.find(({ value }) => value === asked) ?? options.find(({ name }) => name === asked);
}

/// `took` is what whoever waited has waited, in milliseconds: of what the server says, several images share some.
function timings(images, model, took, { decode_ms: decoding, queue_ms: waiting, inference_ms: computing }) {
  return `${plural(images, 'image')} by ${model.name}:${model.version} in ${milliseconds(took)}, ${rate((images * 1000) / Math.max(took, 0.001))}`
    + ` (on the server: decoding ${milliseconds(decoding)}, waiting ${milliseconds(waiting)}, computing ${milliseconds(computing)})`;
}
