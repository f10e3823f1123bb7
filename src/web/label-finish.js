// What becomes of the labels: two sheets to download, or a data set at once.

import { all, byItself, saveAs } from './api.js';
import { MARK } from './csv.js';
import { h, put } from './dom.js';
import { importDataset, nameField, taskField, uploadProgress } from './dataset-import.js';
import { KEY_GIVEN } from './key.js';
import { freeName } from './label-names.js';
import { doubts, importable, sheets, tally } from './labelling.js';

const FORBIDDEN = 403;

/// `settle(session)` first, and again for other settings. An import that has begun goes on until `end()` or the end of `signal`.
export function labelFinish({ file, images, signal }) {
  const fields = {
    name: nameField({ value: nameFrom(file.name) }),
    task: taskField(),
  };
  const problems = h('div');
  const progress = uploadProgress();
  const warnings = h('div');
  const refused = h('div');
  const button = h('button', { type: 'submit', class: 'primary' }, 'Import as a data set');
  const downloads = { train: downloadButton('train'), test: downloadButton('test') };
  const names = images.map((image) => image.name);
  const ended = new AbortController();
  let session = null;
  let sending = false;
  let asking = null;
  /// Of the data sets that there are, as far as the server has said.
  let taken = new Set();
  const proposed = fields.name.input.value;
  const isTaken = () => taken.has(fields.name.input.value.trim());
  const tellTaken = () => fields.name.error(isTaken() ? `There is a data set of this name: take another one, such as ${freeName(fields.name.input.value.trim(), taken)}` : null);
  fields.name.input.addEventListener('input', tellTaken);
  const node = h('section', null,
    h('h2', null, 'Use the labels'),
    h('p', { class: 'muted' }, 'The archive and both sheets are sent to the server; every image without a label is learned from without one.'),
    refused, warnings,
    h('form', { class: 'panel', onsubmit: submit },
      h('div', { class: 'grid' }, Object.values(fields).map((one) => one.node)),
      problems, progress.node,
      h('div', { class: 'actions' }, button, downloads.train, downloads.test),
      h('p', { class: 'hint' }, 'The sheets list the labelled images alone. Who imports them by hand adds ', h('code', null, '-F unlisted=unlabelled'), ' (curl) or ', h('code', null, '--unlisted unlabelled'), ' (mixmatch import): else the others are left out, and MixMatch has nothing to learn from besides.')));

  function downloadButton(sheet) {
    return h('button', { type: 'button', onclick: () => saveAs(sheetFile(sheet, `${MARK}${sheets(session, names)[sheet]}`), `${sheet}.csv`) }, `Download ${sheet}.csv`);
  }

  async function submit(event) {
    event.preventDefault();
    if (isTaken()) {
      tellTaken();
      fields.name.input.focus();
      return;
    }
    const { train, test } = sheets(session, names);
    const body = new FormData();
    for (const [name, { input }] of Object.entries(fields)) body.append(name, input.value.trim());
    body.append('images', file);
    body.append('train', sheetFile('train', train));
    if (test !== null) body.append('test', sheetFile('test', test));
    body.append('unlisted', 'unlabelled');
    sending = true;
    await importDataset(body, { made: [train, test], fields, problems, progress, button, signal: AbortSignal.any([signal, ended.signal]) });
    sending = false;
    update();
  }

  /// After each decision: what can be done, and what is to be known before.
  function update() {
    const sum = tally(session);
    // Meanwhile people label on.
    button.disabled = sending || !importable(sum);
    downloads.train.disabled = sum.train + sum.picked === 0;
    downloads.test.disabled = sum.test === 0;
    const list = doubts(session, sum);
    put(warnings, list.length > 0 && h('div', { class: 'notice warn' }, h('ul', { class: 'plain' }, list.map((one) => h('li', null, one)))));
  }

  /// Each import makes a data set of its own: a name that is taken is not proposed, and is marked before anything is sent. Of several
  /// questions the newest counts alone: an earlier one may have been asked with another key.
  async function askForNames() {
    const { input } = fields.name;
    asking?.abort();
    asking = new AbortController();
    const own = byItself(signal, asking.signal);
    try {
      const sets = await all('/datasets', own);
      if (own.aborted) return;
      taken = new Set(sets.map(({ name }) => name));
    } catch (error) {
      if (own.aborted) return;
      // The import says it again; but what this key may not do is said before an evening of labels.
      if (error.status === FORBIDDEN) put(refused, h('p', { class: 'notice warn' }, `This server would not import the labels: ${error.message}. The sheets can be made here all the same, and the button Key above sets another key.`));
      return;
    }
    put(refused);
    if (sending) return;
    if (input.value === proposed) input.value = freeName(proposed, taken);
    tellTaken();
  }

  function settle(next) {
    if (next.task !== session?.task) fields.task.input.value = next.task;
    session = next;
    update();
  }

  askForNames();
  document.addEventListener(KEY_GIVEN, askForNames, { signal });
  return { node, update, settle, sending: () => sending, end: () => ended.abort() };
}

const sheetFile = (sheet, text) => new File([text], `${sheet}.csv`, { type: 'text/csv', lastModified: 0 });

/// A name that the server takes, made of the archive's.
const nameFrom = (name) => name.replace(/\.zip$/i, '').replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '').slice(0, 64);
