// The form that queues a job. Its rules live on the server: a 422 says beside each field what is allowed.

import { all, get, make, seg } from './api.js';
import { h, put, rest } from './dom.js';
import { go } from './router.js';
import { field, select, showProblem, textInput } from './form.js';
import { facts } from './table.js';
import { choseAll, labelsHint, parts, readLabels } from './job-labels.js';
import { exactly, inexact } from './format.js';

export const PRESETS = [
  ['quick', 'quick – minutes on two CPU cores'],
  ['thorough', 'thorough – 64 × 64 pixels, 2.6 times as long'],
  ['gpu', 'gpu – 96 × 96 pixels, a wider network: minutes on a GPU'],
  ['paper', 'paper – 16,384 steps, for a GPU'],
  ['reference', 'reference – wide_resnet50_2 at 96 × 96, for a GPU'],
  ['demo', 'demo – a minute or two'],
];

/// How a picture becomes the network's square.
export const FITS = [
  ['stretch', 'whole, stretched to a square'],
  ['crop', 'their middle, cut to a square'],
  ['face', 'cut to the face – for photos that show more'],
];

const ANY_OF_THEM = 'A JSON object; any of those below';

export async function newJob({ query, signal }) {
  const [sets, model] = await Promise.all([all('/datasets', signal), query.has('from') ? get(`/jobs/${seg(query.get('from'))}`, signal) : null]);
  if (!sets.length) {
    return h('div', null, h('h1', null, 'New job'), h('p', null, 'A job learns from a data set, and there is none yet. ', h('a', { href: '#/datasets' }, 'Import one'), ' first.'));
  }
  const template = model?.config ?? {};
  const wanted = model?.dataset.id ?? query.get('dataset');
  // Another than the one that was meant is for the user to choose.
  const found = sets.find((set) => set.id === wanted || set.name === wanted);
  // Left away, the number would be the preset's.
  const tookAll = choseAll(template, found);
  const chosen = found ?? (wanted ? null : sets[0]);
  const presets = PRESETS.some(([name]) => name === (template.preset ?? 'quick')) ? PRESETS : [...PRESETS, [template.preset, template.preset]];

  const fields = {
    dataset: field('Data set', select([...(chosen ? [] : [['', 'choose one']]), ...sets.map((set) => [set.id, `${set.name} (${set.task})`])], chosen?.id ?? '')),
    algorithm: field('Algorithm', select([['mixmatch', 'MixMatch – with unlabelled images'], ['supervised', 'Supervised – guesses no labels']], template.algorithm ?? 'mixmatch')),
    preset: field('Preset', select(presets, template.preset ?? 'quick'), 'Every value that is not given below comes from here'),
    fit: field('Pictures', select([['', 'as in the preset'], ...FITS], template.fit ?? ''), 'The same is done with the images that are predicted'),
    labelled: field('Labels', textInput({ inputmode: 'numeric', value: template.labelled ?? '' }), ' '),
    seed: field('Seed', textInput({ inputmode: 'numeric', value: exactly(template.seed ?? 1) }), 'The same seed draws the same labels, so runs can be compared; several, as in 0, 1, 2, train them all'),
    baseline: field('Compare with the supervised baseline', h('input', { type: 'checkbox', checked: true }), 'Trains on the same labels alone beside it: what the unlabelled images are worth'),
    more: field('More hyper-parameters', h('textarea', { rows: 6, spellcheck: 'false', placeholder: '{"epochs": 40, "lambda_u": 5}', value: others(template) }), ANY_OF_THEM),
  };
  const describeLabels = () => {
    const set = sets.find((one) => one.id === fields.dataset.input.value);
    const { numbers } = readLabels(fields.labelled.input.value);
    put(fields.labelled.hint, set ? labelsHint(set, unlessWrong(() => moreOf(fields)), tookAll ? null : fields.preset.input.value) : ' ',
      numbers.length > 1 && numbers.every(Number.isInteger) && h('strong', null, ` Read as ${numbers.length} numbers of labels: ${numbers.join(' and ')}.`));
  };
  const describeMore = () => {
    const [before, now] = [model?.dataset.id, fields.dataset.input.value].map((id) => sets.find((set) => set.id === id)?.classes.length);
    // The preset's is scaled to the classes, and whether the earlier job's is the preset's stands nowhere.
    const kept = before && now && before !== now && fields.more.input.value.includes('"lambda_u"');
    put(fields.more.hint, ANY_OF_THEM, kept && `. The earlier job’s lambda_u was for ${before} classes: left out, the preset’s is scaled to the ${now} here`);
  };
  // An earlier job's values are its preset's: under another preset they would win over that.
  const given = fields.more.input.value;
  fields.preset.input.addEventListener('change', () => {
    const own = fields.preset.input.value === (template.preset ?? 'quick');
    const more = fields.more.input;
    if (own && more.value === '') more.value = given;
    else if (!own && more.value === given) more.value = '';
    describeLabels();
    describeMore();
  });
  fields.labelled.input.addEventListener('input', describeLabels);
  fields.more.input.addEventListener('input', () => {
    describeLabels();
    describeMore();
  });
  fields.dataset.input.addEventListener('change', () => {
    describeLabels();
    describeMore();
  });
  describeLabels();
  if (!chosen) fields.dataset.error(model ? `The earlier job’s data set ${model.dataset.name} is gone: choose another` : `There is no data set ${wanted}: choose another`);
  // What stands in the field is no number: sent as it is, the server refuses it.
  if (inexact(template.seed)) fields.seed.error('The earlier job’s seed is 2^53 or more, which a browser rounds: give another here, or send its configuration with curl');

  const problems = h('div');
  const button = h('button', { type: 'submit', class: 'primary' }, 'Queue the job');
  return h('div', null,
    h('h1', null, 'New job'),
    model && h('p', { class: 'muted' }, 'With the settings of ', h('a', { href: `#/jobs/${model.id}` }, 'an earlier job'), '.'),
    // The server says more about a wrong value than a browser does, so it is asked about all of them.
    h('form', { class: 'panel', novalidate: true, onsubmit: submit },
      h('div', { class: 'grid' }, Object.values(fields).map((one) => one.node)),
      problems, h('div', { class: 'actions' }, button)),
    hyperParameters(signal));

  async function submit(event) {
    event.preventDefault();
    for (const one of Object.values(fields)) one.error(null);
    put(problems);
    const { problem } = readLabels(fields.labelled.input.value, sets.find((one) => one.id === fields.dataset.input.value));
    if (problem) {
      fields.labelled.error(problem);
      fields.labelled.input.focus();
      return;
    }
    let body;
    try {
      body = request(fields, tookAll);
    } catch (error) {
      fields.more.error(error.message);
      fields.more.input.focus();
      return;
    }
    const awake = rest(button);
    try {
      const job = await make('/jobs', body);
      go(`#/jobs/${job.id}`);
    } catch (error) {
      // What was written into the free field is complained of there.
      const inMore = Object.fromEntries(Object.keys(moreOf(fields)).map((name) => [name, fields.more]));
      showProblem(error.status === 404 ? { ...error, message: error.message, errors: [{ pointer: '/dataset', detail: error.message }] } : error, { ...fields, ...inMore }, problems);
    } finally {
      awake();
    }
  }
}

/// What is sent. With `tookAll` a number of labels that is said nowhere is all of them, as the job of before had it.
export function request(fields, tookAll) {
  const body = { dataset: fields.dataset.input.value, algorithm: fields.algorithm.input.value, preset: fields.preset.input.value };
  const lists = { labelled: readLabels(fields.labelled.input.value).numbers, seed: parts(fields.seed.input.value).map(asWritten) };
  for (const [name, values] of Object.entries(lists)) {
    if (values.length) body[name] = values.length > 1 ? values : values[0];
  }
  const more = moreOf(fields);
  if (tookAll && !lists.labelled.length && !Object.hasOwn(more, 'labelled')) body.labelled = null;
  if (fields.fit.input.value) body.fit = fields.fit.input.value;
  if (fields.baseline.input.checked && body.algorithm !== 'supervised') body.baseline = true;
  // It would win over what the form shows.
  const twice = Object.keys(more).filter((name) => Object.hasOwn(body, name));
  if (twice.length) throw new Error(`${twice.join(' and ')} ${twice.length > 1 ? 'have fields of their own above' : 'has a field of its own above'}: say it there, and leave it out here`);
  return { ...body, ...more };
}

/// A seed that is none is the server's to refuse, with its own words; so is a whole number that would not arrive as it was written.
function asWritten(text) {
  const number = Number(text);
  const exact = Number.isFinite(number) && !inexact(number);
  return exact ? number : text;
}

/// What is half written says nothing yet.
function unlessWrong(read) {
  try {
    return read();
  } catch {
    return {};
  }
}

function moreOf(fields) {
  const text = fields.more.input.value.trim();
  if (text === '') return {};
  let value;
  let rounded = false;
  try {
    value = JSON.parse(text, (_, part) => {
      rounded ||= inexact(part);
      return part;
    });
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error('A JSON object is needed: {"name": value, …}');
  if (rounded) throw new Error('A whole number of 2^53 or more would not arrive as it is written here: send it with curl');
  return value;
}

/// A resolved configuration, less what has a field of its own and what the server made of the run's length: a run of another
/// length has its own.
export function others(config) {
  const { preset, algorithm, labelled, seed, fit, ...rest } = config;
  if (isOfLength(rest)) delete rest.bn_momentum;
  return Object.keys(rest).length ? JSON.stringify(rest, null, 1) : '';
}

/// Whether `bn_momentum` is what a run of so many steps gets where its preset's would be too little. The preset's own stands in no
/// answer of the server, but is the larger one where it was taken.
function isOfLength({ bn_momentum: momentum, epochs, steps_per_epoch: steps }) {
  const derived = Math.min(1, 5 / (epochs * steps));
  return Math.abs(momentum - derived) <= 1e-9 * derived;
}

/// Names and meanings come from the server's own description, so that none is missing here.
function hyperParameters(signal) {
  const place = h('div', null, h('p', { class: 'muted' }, 'Loading…'));
  const load = async () => {
    try {
      const { components } = await get('/openapi.json', signal);
      const own = new Set(['preset', 'algorithm', 'labelled', 'seed', 'fit']);
      const properties = Object.entries(components.schemas.TrainConfig.properties).filter(([name]) => !own.has(name));
      put(place, facts(properties.map(([name, schema]) => [h('code', null, name), schema.description ?? schema.oneOf?.find((one) => one.description)?.description ?? ''])));
    } catch {
      put(place, h('p', null, 'They are described in the ', h('a', { href: '/docs/' }, 'API documentation'), '.'));
    }
  };
  return h('details', { ontoggle: (event) => event.target.open && load() }, h('summary', null, 'All hyper-parameters'), place);
}
