// The list of data sets, and the form that imports one.

import { all } from './api.js';
import { h } from './dom.js';
import { importDataset, importLimits, nameField, taskField, uploadDoubt, uploadProgress } from './dataset-import.js';
import { datasetTable } from './dataset-parts.js';
import { field, textInput } from './form.js';
import { freeName } from './label-names.js';
import { curlImport, command } from './shell.js';

export async function datasets({ signal }) {
  const sets = await all('/datasets', signal);
  return h('div', null,
    h('div', { class: 'title' }, h('h1', null, 'Data sets'), sets.length > 0 && h('a', { class: 'button', href: '#/label' }, 'Label images')),
    sets.length ? datasetTable(sets) : h('p', { class: 'muted' }, 'None yet. Import one below, or ', labelLink('label images'), ' first.'),
    h('section', null, h('div', { class: 'section-head' }, h('h2', null, 'Import a data set'), h('p', null, 'No labels yet? ', labelLink('Label images here'))), importForm(sets, signal)));
}

const labelLink = (text) => h('a', { href: '#/label' }, text);

function importForm(sets, signal) {
  const sheet = '.csv,.xlsx';
  const fields = {
    name: nameField(),
    task: taskField({ list: 'tasks' }),
    images: field('Images', h('input', { type: 'file', name: 'images', required: true, accept: '.zip' }), 'A ZIP of JPEG, PNG or WebP files'),
    train: field('Training sheet', h('input', { type: 'file', name: 'train', required: true, accept: sheet }), 'CSV or XLSX; an empty label means unlabelled'),
    test: field('Test sheet (optional)', h('input', { type: 'file', name: 'test', accept: sheet }), 'Evaluated once, at the end of a job'),
    image_column: field('Image column (optional)', textInput({ name: 'image_column' }), 'Found by itself where it has a usual name'),
    label_column: field('Label column (optional)', textInput({ name: 'label_column' })),
    group_column: field('Group column (optional)', textInput({ name: 'group_column' }), 'What belongs together, such as a person'),
    picked_column: field('Picked column (optional)', textInput({ name: 'picked_column' }), 'Says which images were picked to be labelled, not drawn'),
    unlisted: field('Images that no sheet names', h('select', { name: 'unlisted' }, h('option', { value: 'ignore' }, 'leave them out'), h('option', { value: 'unlabelled' }, 'learn from them, unlabelled')), 'To learn from them, sheets of the labelled images suffice'),
    strict: field('Bad rows', h('select', { name: 'strict' }, h('option', { value: 'false' }, 'leave them out, and list them'), h('option', { value: 'true' }, 'refuse the whole data set'))),
  };
  const problems = h('div');
  const progress = uploadProgress();
  const button = h('button', { type: 'submit', class: 'primary' }, 'Import');
  const form = h('form', { class: 'panel', onsubmit: submit },
    h('datalist', { id: 'tasks' }, h('option', { value: 'gender' }), h('option', { value: 'mask' })),
    h('div', { class: 'grid' }, Object.values(fields).map((one) => one.node)),
    problems, progress.node,
    h('div', { class: 'actions' }, button),
    h('details', null, h('summary', null, 'The same with curl'), command(curlImport())));

  const { images, name } = fields;
  let known = sets;
  const tellTaken = () => {
    const taken = new Set(known.map((set) => set.name));
    const wanted = name.input.value.trim();
    name.error(taken.has(wanted) ? `There is a data set of this name: take another one, such as ${freeName(wanted, taken)}` : null);
    return taken.has(wanted);
  };
  name.input.addEventListener('input', tellTaken);
  images.input.addEventListener('change', async () => {
    images.error(null);
    const [file] = images.input.files;
    const doubt = file && await uploadDoubt(file.size, importLimits(signal));
    if (file === images.input.files[0]) images.error(doubt);
  });

  async function submit(event) {
    event.preventDefault();
    // The server tells it too, but of a request that may come again no sooner than it has read all of it.
    if (tellTaken()) known = await all('/datasets', signal).catch(() => known);
    if (tellTaken()) {
      name.input.focus();
      return;
    }
    const body = new FormData();
    for (const [name, { input }] of Object.entries(fields)) {
      if (input.type === 'file') [...input.files].forEach((file) => body.append(name, file));
      else if (input.value.trim()) body.append(name, input.value.trim());
    }
    await importDataset(body, { fields, problems, progress, button, signal });
  }
  return form;
}
