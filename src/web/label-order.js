// Which image is asked for next: the next one of the random order, or the one that a model is least sure of.

import { all, seg, send } from './api.js';
import { parse } from './csv.js';
import { announce, h, put } from './dom.js';
import { field, select } from './form.js';
import { plural } from './format.js';
import { pick } from './labelling.js';
import { action, problemBox } from './problem.js';
import { normalisedPath } from './zip.js';

const WHY = 'Once a model has learned from labels that came in the random order, those of the images that it is least sure of teach it more. They are for training alone, and the sheet says that they were picked: what validates, and the shares of the classes, stay with the random ones.';

/// As many as anybody labels in one go.
const MOST = 1000;

/// `onswitch` is called where the session has gone over to the other list.
export function labelOrder({ session, images, signal, onswitch }) {
  const body = h('div');
  const node = h('details', { class: 'panel', open: session.picks.on, ontoggle: () => node.open && fill() },
    h('summary', null, 'Which images come next'), h('p', { class: 'muted prose' }, WHY), body);
  let filled = false;

  function fill() {
    if (filled) return;
    filled = true;
    if (session.picks.on) put(body, h('div', { class: 'actions' }, h('button', { type: 'button', onclick: atRandom }, 'Go back to the random order')));
    else offer();
  }

  function atRandom() {
    session.picks.on = false;
    announce('The random order again');
    onswitch();
  }

  async function offer() {
    put(body, h('p', { class: 'muted' }, 'Asking for the models…'));
    try {
      const models = await all('/models', signal);
      const versions = models.flatMap(({ name, versions: list }) => list.map(({ version }) => [`${name}:${version}`, `${name} version ${version}`]));
      put(body, versions.length ? form(versions) : h('p', null, 'There is no model yet: import the labels below, and train.'));
    } catch (error) {
      if (error.name === 'AbortError') return;
      filled = false;
      put(body, problemBox(error));
    }
  }

  function form(versions) {
    const trouble = h('div');
    const model = field('Model', select(versions), 'One that learned from this archive');
    const show = action('Show what it is least sure of', () => byModel(model.input.value), { place: trouble });
    return h('div', null, model.node, h('div', { class: 'actions' }, show), trouble);
  }

  async function byModel(key) {
    const [name, version] = key.split(':');
    const path = `/models/${seg(name)}/versions/${version}/predictions?rows=unlabelled&limit=${MOST}`;
    const answer = await send('GET', path, { headers: { accept: 'text/csv' }, signal });
    const numbers = numbersOf(parse(await answer.text()), images);
    if (!numbers.length) throw new Error(`No image of this archive is among those without a label that ${key} learned from: choose the archive, or the model, that belongs to the other.`);
    const left = pick(session, numbers, images.length);
    if (left === 0) throw new Error(`All images that ${key} is unsure of were decided here: import the labels, and train again.`);
    announce(`${plural(left, 'image')}, the least sure first`);
    onswitch();
  }

  if (session.picks.on) fill();
  return node;
}

/// The numbers of the images that rows name, as the server finds them: by the whole path, however it is written, or by the file's name
/// where that is no other's.
export function numbersOf(rows, images) {
  const last = (path) => path.slice(path.lastIndexOf('/') + 1);
  const names = images.map(({ name }) => normalisedPath(name));
  const paths = new Map(names.map((name, number) => [name, number]));
  const files = new Map();
  names.forEach((name, number) => files.set(last(name), files.has(last(name)) ? null : number));
  return rows.map(({ image }) => normalisedPath(image)).map((image) => paths.get(image) ?? (image.includes('/') ? undefined : files.get(image)))
    .filter((number) => Number.isInteger(number));
}
