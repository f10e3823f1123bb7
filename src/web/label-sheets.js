// Goes on from sheets that were downloaded here: their labels, for the images of an archive.

import { h, put } from './dom.js';
import { field } from './form.js';
import { plural } from './format.js';
import { carried, kindsOf, sheetLabels, takenOver } from './label-carry.js';

/// `onclasses` is called with the classes that the sheets name.
export function labelSheets({ images, onclasses }) {
  const file = () => h('input', { type: 'file', accept: '.csv', onchange: read });
  const fields = { train: field('Training sheet', file(), 'train.csv'), test: field('Test sheet', file(), 'test.csv; its labels stay for the test') };
  const said = h('div');
  let taken = [];
  let reading = 0;
  const node = h('details', { class: 'label-sheets' }, h('summary', null, 'Go on from sheets that you downloaded'),
    h('div', { class: 'grid' }, Object.values(fields).map((one) => one.node)), said);

  async function read() {
    reading += 1;
    const mine = reading;
    taken = [];
    put(said);
    const lists = await Promise.all(Object.entries(fields).map(async ([kind, one]) => {
      one.error(null);
      const [sheet] = one.input.files;
      try {
        return sheet ? sheetLabels(await textOf(sheet), kind) : [];
      } catch (error) {
        if (mine === reading) one.error(error.message);
        return [];
      }
    }));
    if (mine !== reading) return;
    const found = carried(lists.flat(), images);
    taken = found.taken;
    if (lists.flat().length) put(said, tell(found));
    onclasses([...new Set(taken.map(({ label }) => label))]);
  }

  return { node, taken: (classes) => takenOver(taken, classes) };
}

/// A browser would put a mark in place of what is not in UTF-8, and that would be a class of its own; the server refuses it too.
async function textOf(sheet) {
  const bytes = new Uint8Array(await sheet.arrayBuffer());
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : 'utf-8';
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    throw new Error('It is not in UTF-8: save it as “CSV UTF-8”');
  }
}

function tell({ taken, missing }) {
  return [
    h('p', { class: taken.length ? 'notice good' : 'notice warn' }, taken.length ? `${plural(taken.length, 'label')} will be taken over: ${kindsOf(taken)}.` : 'No row names an image of this ZIP: choose the ZIP, or the sheets, that belong to the other.'),
    taken.length > 0 && missing > 0 && h('p', { class: 'notice warn' }, `${plural(missing, 'more row')} ${missing === 1 ? 'names' : 'name'} no image of this ZIP, or one that has its label: left out.`),
  ];
}
