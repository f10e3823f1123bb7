// Labels of another archive, or of sheets, whose images are in this one too. Knows no page, so that node's tests can import it.

import { parse, separatorOf } from './csv.js';
import { isGap, normalisedLabel } from './label-names.js';
import { normalisedPath } from './zip.js';

/// What a cell of a `picked` column may say, besides nothing, as src/dataset/columns.rs reads it.
const YES = ['1', 'yes', 'y', 'true', 'x'];
const NO = ['0', 'no', 'n', 'false'];

const fileOf = (path) => path.slice(path.lastIndexOf('/') + 1);

/// Finds for each label, `{ name, … }` and where it is known `crc`, the number of its image: by the whole path, or where folders
/// were added or taken away by the file's name, if there is only one that it can be. An image that has another content under
/// the same name is another one. `taken` has the labels with their `image`, each once.
export function carried(labels, images) {
  const paths = new Map(images.map(({ name }, image) => [normalisedPath(name), image]));
  const files = new Map();
  for (const [path, image] of paths) files.set(fileOf(path), [...(files.get(fileOf(path)) ?? []), { path, image }]);
  const alike = (one, image) => one.crc == null || one.crc === images[image].crc;
  const used = new Set();
  const found = labels.map((one) => {
    const image = paths.get(normalisedPath(one.name));
    if (image === undefined || used.has(image) || !alike(one, image)) return null;
    used.add(image);
    return image;
  });
  const loose = labels.map((one, at) => (found[at] === null ? elsewhere(one) : null));

  function elsewhere(one) {
    const path = normalisedPath(one.name);
    if (paths.has(path) && one.crc == null) return null;
    const meant = (other) => (one.crc == null ? isBelow(path, other.path) || isBelow(other.path, path) : alike(one, other.image));
    const can = (files.get(fileOf(path)) ?? []).filter(meant);
    return can.length === 1 && !used.has(can[0].image) ? can[0].image : null;
  }

  // Two that could be the same image: nobody knows which of them is.
  const times = new Map();
  for (const image of loose) times.set(image, (times.get(image) ?? 0) + 1);
  const taken = labels.flatMap((one, at) => {
    const image = found[at] ?? (times.get(loose[at]) === 1 ? loose[at] : null);
    return image === null ? [] : [{ ...one, image }];
  });
  return { taken, missing: labels.length - taken.length };
}

/// Whether the one path is the other one in some folder.
const isBelow = (path, other) => path.endsWith(`/${other}`);

/// The labels of a sheet that this page wrote, or one like it: `{ name, label, kind }`. Throws where it has no such columns, where a
/// label cannot be a class of this page, and where nobody can tell whether its image was picked. A label may have been appended below
/// the row that says that its image was picked: as in an import, an empty cell leaves it to the image's other rows.
export function sheetLabels(text, kind) {
  const rows = parse(text, separatorOf(text))
    .map((row) => Object.fromEntries(Object.entries(row).map(([name, cell]) => [name.trim().toLowerCase(), cell.trim()])));
  if (!rows.length) throw new Error('There is no row in it');
  if (!('image' in rows[0] && 'label' in rows[0])) throw new Error('It has no columns “image” and “label”: choose a sheet that was downloaded here');
  const picks = new Set(rows.filter(({ picked }) => YES.includes(wordOf(picked))).map(({ image }) => normalisedPath(image)));
  const kindOf = ({ image, picked }) => (kind === 'train' && (isPicked(picked) ?? picks.has(normalisedPath(image))) ? 'picked' : kind);
  const labelled = rows.filter(({ image, label }) => image !== '' && label !== '' && !isGap(label));
  const parted = labelled.find(({ label }) => /[,\r\n]/.test(label));
  if (parted) throw new Error(`The label “${parted.label}” has a comma or a line break, and these part the classes on this page: give it another name in the sheet`);
  return labelled.map((row) => ({ name: row.image, label: normalisedLabel(row.label), kind: kindOf(row) }));
}

/// What a cell of a `picked` column says; pandas writes a column of 1 and nothing as 1.0 and nothing.
const wordOf = (cell = '') => (isGap(cell) ? '' : normalisedLabel(cell).toLowerCase());

/// Null where the cell says nothing.
function isPicked(cell) {
  const word = wordOf(cell);
  if (word === '') return null;
  if (YES.includes(word)) return true;
  if (NO.includes(word)) return false;
  throw new Error(`The column “picked” says “${cell}”: it may be yes, no or empty`);
}

/// What a session takes over of labels that have found their images; throws where one's class is none of these.
export function takenOver(found, classes) {
  const unknown = found.find(({ label }) => !classes.includes(label));
  if (unknown) throw new Error(`“${unknown.label}” has labels in the sheets: add it, or choose no sheets`);
  return found.map(({ image, label, kind }) => ({ image, decision: classes.indexOf(label), kind }));
}

/// The words for how many labels there are of each kind.
export function kindsOf(labels) {
  const times = (wanted) => labels.filter(({ kind }) => kind === wanted).length;
  const parts = [[times('train'), 'for training'], [times('test'), 'for the test sheet'], [times('picked'), 'picked']];
  return parts.filter(([number]) => number > 0).map(([number, words]) => `${number} ${words}`).join(', ');
}
