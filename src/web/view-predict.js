// Drop images, see what a model says of them.

import { h, put, announce } from './dom.js';
import { dropZone } from './drop-zone.js';
import { field, select } from './form.js';
import { problemBox } from './problem.js';
import { allModels, isGender, genderNote } from './model-parts.js';
import { classify } from './predict-batches.js';
import { resultCard } from './predict-card.js';
import { percent, milliseconds, plural, count } from './format.js';
import { curlPredict, command } from './shell.js';

export async function predict({ query, signal }) {
  const items = await allModels(signal);
  if (!items.length) {
    return h('div', null, h('h1', null, 'Predict'), h('p', null, 'No model is published yet. A ', h('a', { href: '#/jobs/new' }, 'job'), ' that succeeds publishes one.'));
  }
  const options = choices(items);
  const model = field('Model', select(options.map(({ value, text }) => [value, text]), wanted(options, query.get('model'))));
  const slider = h('input', { type: 'range', min: 0, max: 1, step: 0.01, value: 0.5 });
  const sliderValue = h('output', null);
  const abstention = field(['Abstain below ', sliderValue], slider, 'Where the largest probability is smaller, take the answer for undecided');
  const note = h('div');
  const trouble = h('div');
  const status = h('p', { class: 'muted', role: 'status' });
  const grid = h('ul', { class: 'results' });
  const curlPlace = h('div');
  const cards = [];

  const threshold = () => Number(slider.value);
  const tellCommand = () => put(curlPlace, command(curlPredict(model.input.value, { threshold: threshold() })));
  const settle = () => {
    put(sliderValue, percent(threshold(), 0));
    cards.forEach((card) => card.settle(threshold()));
    tellCommand();
  };
  slider.addEventListener('input', settle);

  const describe = () => {
    const { name, classes } = options.find((option) => option.value === model.input.value);
    put(note, isGender(name, classes) && genderNote());
    tellCommand();
  };
  // What the model before still answers is of no interest once another is chosen.
  let chosen = new AbortController();
  const forget = () => {
    chosen.abort();
    chosen = new AbortController();
  };
  model.input.addEventListener('change', () => {
    describe();
    forget();
    if (cards.length) ask([...cards]);
  });

  function add(files) {
    const fresh = [...files].map((file) => resultCard(file, signal));
    if (!fresh.length) return;
    cards.unshift(...fresh);
    grid.prepend(...fresh.map((card) => card.node));
    clear.hidden = false;
    ask(fresh);
  }

  let asking = 0;
  async function ask(asked) {
    asking += 1;
    const mine = asking;
    const still = AbortSignal.any([signal, chosen.signal]);
    put(trouble);
    asked.forEach((card) => card.wait());
    put(status, `Asking about ${plural(asked.length, 'image')}…`);
    const sum = { total_ms: 0, decode_ms: 0, queue_ms: 0, inference_ms: 0 };
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
    };
    const onrefusal = (batch, error) => {
      if (batch.length === 1) batch[0].show({ problem: { detail: error.message } });
      else tell(error);
    };
    try {
      await classify(asked, { model: model.input.value, threshold: threshold(), signal: still, onanswer, onrefusal });
    } catch (error) {
      if (still.aborted) return;
      if (error.status === undefined) console.error(error);
      tell(error);
    }
    asked.forEach((card) => card.stop());
    const without = asked.length - answered;
    announce(`${plural(answered, 'image')} classified${without ? `, ${count(without)} without an answer` : ''}`);
    if (mine === asking) put(status, answered > 0 && timings(answered, by, sum));
  }

  const clear = h('button', { type: 'button', hidden: true, onclick: () => {
    forget();
    cards.splice(0).forEach((card) => card.free());
    put(grid);
    put(status);
    put(trouble);
    clear.hidden = true;
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
    grid,
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

// A model that has lost its champion is still the one that was asked for.
const wanted = (options, text) => (options.find(({ value }) => value === text) ?? options.find(({ name }) => name === text) ?? options[0]).value;

function timings(images, model, sum) {
  return `${plural(images, 'image')} by ${model.name}:${model.version} in ${milliseconds(sum.total_ms)}`
    + ` (decoding ${milliseconds(sum.decode_ms)}, waiting ${milliseconds(sum.queue_ms)}, network ${milliseconds(sum.inference_ms)}), ${count(Math.round((images * 1000) / Math.max(sum.total_ms, 0.001)))} images/s`;
}
