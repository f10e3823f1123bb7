// Published models: versions, figures, and which one is the champion.

import { get, putJson, remove, download, seg } from './api.js';
import { h, put } from './dom.js';
import { show } from './router.js';
import { action, problemBox } from './problem.js';
import { table, facts } from './table.js';
import { testAccuracy, validationAccuracy } from './accuracy.js';
import { CHAMPION, allModels, champion, isGender, genderNote } from './model-parts.js';
import { sameImages } from './model-tests.js';
import { ALGORITHMS, score, when, count, exactly } from './format.js';
import { curlPredict, command } from './shell.js';

export async function models({ signal }) {
  const items = await allModels(signal);
  return h('div', null,
    h('h1', null, 'Models'),
    items.length
      ? items.map((model) => modelSection(model, signal))
      : h('p', { class: 'muted' }, 'None yet: a job that succeeds publishes one under its data set’s task.'));
}

function modelSection(model, signal) {
  const place = h('div');
  // Of the version that answers.
  const classes = (champion(model) ?? model.versions[0])?.classes ?? [];
  return h('section', null,
    h('div', { class: 'section-head' }, h('h2', null, model.name), h('a', { href: `#/predict?model=${seg(model.name)}` }, 'Predict')),
    h('p', { class: 'muted break' }, `Classes: ${classes.join(', ')}`),
    otherClasses(model, classes),
    isGender(model.name, classes) && genderNote(),
    place,
    tests(model).length > 1 && h('p', { class: 'notice warn' }, `These versions were tested on different images (${tests(model).map(count).join(', ')} of them): where one is ahead, its images may be the easier ones. Compare them on the same images below.`),
    versions(model, place),
    h('details', { ontoggle: (event) => event.target.open && details(event.target.lastElementChild, model, signal) }, h('summary', null, 'Network, split and preprocessing'), h('div')),
    h('details', { ontoggle: (event) => event.target.open && sameImages(event.target.lastElementChild, model, signal) }, h('summary', null, 'Compare the versions on the same test images'), h('div')),
    h('details', null, h('summary', null, 'Predict with curl'), command(curlPredict(CHAMPION in model.aliases ? model.name : `${model.name}:${model.versions[0].version}`))));
}

/// Versions that a line names.
const NAMED = 3;

/// A line on the versions that answer with other classes than these; nothing where there are none.
function otherClasses(model, classes) {
  const others = model.versions.filter((version) => String(version.classes) !== String(classes));
  if (!others.length) return null;
  const named = others.slice(0, NAMED).map((version) => `version ${version.version} (${version.classes.join(', ')})`);
  const more = others.length > NAMED ? ` and ${others.length - NAMED} more` : '';
  return h('p', { class: 'notice warn' }, `Not all versions have these classes: ${named.join(', ')}${more}. Whoever asks for a version, or for the champion after it was changed, may get other answers than now.`);
}

/// The numbers of images that versions were tested on. Of equal numbers nobody here knows whether they are the same images.
function tests(model) {
  return [...new Set(model.versions.map(({ metrics }) => metrics.test?.images).filter((images) => images != null))].sort((a, b) => a - b);
}

function versions(model, place) {
  const named = (version) => Object.entries(model.aliases).filter(([, number]) => number === version.version).map(([alias]) => alias);
  return table([
    { head: 'Version', cell: (version) => [`version ${version.version}`, named(version).map((alias) => [' ', h('span', { class: 'badge succeeded' }, alias)])] },
    { head: 'Trained by', cell: ({ algorithm }) => ALGORITHMS[algorithm] ?? h('span', { class: 'muted' }, 'unknown') },
    { head: 'Labels', number: true, cell: ({ labelled }) => (labelled === null ? '–' : count(labelled)) },
    { head: 'Validation accuracy', number: true, cell: ({ metrics }) => validationAccuracy(metrics.validation) },
    { head: 'Validation F1 macro', number: true, cell: ({ metrics }) => score(metrics.validation?.validation_f1_macro) },
    { head: 'Test accuracy', number: true, cell: ({ metrics }) => testAccuracy(metrics.test) },
    { head: 'Test F1 macro', number: true, cell: ({ metrics }) => score(metrics.test?.f1_macro) },
    { head: 'Published', number: true, cell: (version) => when(version.created_at) },
    { head: 'Job', cell: (version) => (version.job_id ? h('a', { href: `#/jobs/${version.job_id}` }, 'job') : h('span', { class: 'muted' }, 'deleted')) },
    { head: h('span', { class: 'visually-hidden' }, 'What can be done'), cell: (version) => {
      const of = `version ${version.version} of ${model.name}`;
      const act = (label, work, more) => action(label, () => work(model, version), { place, kind: 'small', of, ...more });
      return h('div', { class: 'actions tight' },
        model.aliases[CHAMPION] !== version.version && act('Make champion', crown, { said: `The champion is ${of}` }),
        act('Model card', card),
        act('Weights', weights),
        act('Predictions', predictions),
        // What an alias names answers somebody's predictions; the server refuses it too.
        !named(version).length && act('Delete', forget, { kind: 'small danger', confirm: 'Delete for good?', said: `Deleted: ${of}` }));
    } },
  ], model.versions, { caption: `Versions of ${model.name}` });
}

/// The server loads and checks the version before the alias moves; a 409 says why it did not.
async function crown(model, version) {
  await putJson(`/models/${seg(model.name)}/aliases/${CHAMPION}`, { version: version.version });
  await show();
}

async function forget(model, { version }) {
  await remove(`/models/${seg(model.name)}/versions/${version}`);
  await show();
}

function card(model, { version }) {
  return download(`/models/${seg(model.name)}/versions/${version}/card`, `${model.name}-${version}.md`, { accept: 'text/markdown' });
}

function weights(model, { version }) {
  return download(`/models/${seg(model.name)}/versions/${version}/weights`, `${model.name}-${version}.safetensors`, { accept: '*/*' });
}

/// What it says of each image of its data set: a table for a spreadsheet.
function predictions(model, { version }) {
  return download(`/models/${seg(model.name)}/versions/${version}/predictions`, `${model.name}-${version}.csv`, { accept: 'text/csv' });
}

async function details(place, model, signal) {
  // A problem that stands there may be over.
  if (place.querySelector('dl')) return;
  try {
    put(place, facts(await describe(model, signal)));
  } catch (error) {
    if (!signal.aborted) put(place, problemBox(error));
  }
}

async function describe(model, signal) {
  const version = model.aliases[CHAMPION] ?? model.versions[0].version;
  const { manifest, weights_sha256: sha } = await get(`/models/${seg(model.name)}/versions/${version}`, signal);
  const { config, split, preprocess } = manifest;
  return [
    ['Version', String(version)],
    ['Network', manifest.network],
    ['Input', `${preprocess.size} × ${preprocess.size}, ${preprocess.fit}`],
    ['Labels trained with', split.picked > 0 ? `${count(split.labelled)}, ${count(split.picked)} of them picked` : count(split.labelled)],
    // A supervised run looks at them where it pretrains, and else not at all.
    (config.algorithm !== 'supervised' || config.pretrain_epochs > 0) && ['Images used without label', count(split.unlabelled)],
    ['Validation images', count(split.validation)],
    ['Test images', count(split.test)],
    ['Algorithm', config.algorithm],
    ['Seed', exactly(config.seed)],
    ['Data set’s hash', h('code', { class: 'break' }, manifest.dataset_hash)],
    ['SHA-256 of the weights', h('code', { class: 'break' }, sha)],
  ];
}
