// Which image is asked for next: the next one of the random order, or the one that a model is least sure of.

import { all, seg, send } from './api.js';
import { parse } from './csv.js';
import { announce, h, put } from './dom.js';
import { field, select } from './form.js';
import { plural } from './format.js';
import { batch, pick } from './labelling.js';
import { action, problemBox } from './problem.js';
import { normalisedPath, withoutExtension } from './zip.js';

const WHY = 'Once a model has learned from labels that came in the random order, those of the images that it is least sure of teach it more. They are for training alone, and the sheet says that they were picked: what validates, and the shares of the classes, stay with the random ones.';

/// As many as anybody labels in one go.
const MOST = 1000;

/// In whose order images come, in words.
export function orderOf({ picks: { on, model } }) {
  if (!on) return 'in random order';
  return `least sure first${model ? `, by ${named(model)}` : ''}`;
}

const named = (key) => key.replace(/:(\d+)$/, ', version $1');

/// `onswitch` is called where the session has gone over to another order.
export function labelOrder({ session, images, signal, onswitch }) {
  const { picks } = session;
  const body = h('div');
  const node = h('details', { class: 'panel', open: picks.on, ontoggle: () => node.open && offer() },
    h('summary', null, `Which images come next: ${orderOf(session)}`), h('p', { class: 'muted prose' }, WHY),
    picks.on && h('div', { class: 'actions' }, h('button', { type: 'button', onclick: atRandom }, 'Go back to the random order')), body);
  let filled = false;

  function atRandom() {
    picks.on = false;
    announce('The random order again');
    onswitch();
  }

  async function offer() {
    if (filled) return;
    filled = true;
    put(body, h('p', { class: 'muted' }, 'Asking for the models…'));
    try {
      const models = await all('/models', signal);
      put(body, models.length ? form(models) : h('p', null, 'There is no model yet: import the labels below, and train.'));
    } catch (error) {
      if (error.name === 'AbortError') return;
      filled = false;
      put(body, problemBox(error));
    }
  }

  function form(models) {
    const trouble = h('div');
    const versions = models.flatMap(({ name, versions: list }) => list.map(({ version }) => [`${name}:${version}`, `${name} version ${version}`]));
    const newest = newestOf(models, picks.on && picks.model ? picks.model.split(':')[0] : session.task);
    const model = field('Model', select(versions, newest), 'One that learned from this archive');
    const show = action(picks.on ? 'Order them anew' : 'Show what it is least sure of', () => byModel(model.input.value), { place: trouble });
    return h('div', null,
      picks.on && picks.model && newest && newest !== picks.model && h('p', { class: 'notice good' }, `The images are in the order of ${named(picks.model)}, and there is a newer one, ${named(newest)}: it is unsure of others.`),
      model.node, h('div', { class: 'actions' }, show), trouble);
  }

  async function byModel(key) {
    const [name, version] = key.split(':');
    const path = `/models/${seg(name)}/versions/${version}/predictions?rows=unlabelled&limit=${MOST}`;
    const answer = await send('GET', path, { headers: { accept: 'text/csv' }, signal });
    const numbers = numbersOf(parse(await answer.text()), images);
    if (!numbers.length) throw new Error(`No image of this archive is among those without a label that ${key} learned from: choose the archive, or the model, that belongs to the other.`);
    if (pick(session, numbers, images.length, key) === 0) throw new Error(`All images that ${key} is unsure of were decided here: import the labels, and train again.`);
    announce(`The ${plural(batch(session).size, 'image')} that ${named(key)} is least sure of come first`);
    onswitch();
  }

  if (picks.on) offer();
  return node;
}

/// The newest version of a model; undefined where there is none of that name.
export function newestOf(models, name) {
  const versions = models.find((one) => one.name === name)?.versions.map(({ version }) => version) ?? [];
  return versions.length ? `${name}:${Math.max(...versions)}` : undefined;
}

/// The numbers of the images that rows name, as the server finds them (src/dataset/archive/index.rs): by the whole path, however it is
/// written, by the path within the folders that all images lie in, or by the file's name where that is no other's. The extension
/// may be left away where it is plain which image is meant.
export function numbersOf(rows, images) {
  const names = images.map(({ name }) => normalisedPath(name));
  const tops = commonFolders(names);
  const [whole, bare] = [finder(names, tops), finder(names.map(withoutExtension), tops)];
  const find = (name) => whole(name) ?? (withoutExtension(name) === undefined ? bare(name) : undefined);
  return rows.map(({ image }) => find(normalisedPath(image))).filter((number) => Number.isInteger(number));
}

/// Finds a name among these: its number, NaN where it may be that of several, undefined where it is none's.
function finder(names, tops) {
  const last = (path) => path.slice(path.lastIndexOf('/') + 1);
  const paths = numbered(names);
  const files = numbered(names.map(last));
  return (name) => {
    const path = ['', ...tops].map((top) => `${top}${name}`).find((one) => paths.has(one));
    // Who names folders means them.
    return path === undefined && !name.includes('/') ? files.get(name) : paths.get(path);
  };
}

/// Each name's number; of one that comes again NaN.
function numbered(names) {
  const numbers = new Map();
  names.forEach((name, number) => numbers.set(name, numbers.has(name) ? NaN : number));
  return numbers;
}

/// The folders that all these lie in, the outermost first, each with its slash and those before it.
function commonFolders(paths) {
  const foldersOf = (path) => path.split('/').slice(0, -1);
  const shared = paths.map(foldersOf).reduce((known, folders) => known.slice(0, prefix(known, folders)));
  return shared.map((_, at) => `${shared.slice(0, at + 1).join('/')}/`);
}

/// How many of their first parts are the same.
function prefix(one, other) {
  const first = one.findIndex((part, at) => part !== other[at]);
  return first < 0 ? one.length : first;
}
