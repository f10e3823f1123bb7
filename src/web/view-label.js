// Label images in the browser: choose an archive, say what the classes are, look at images in a random order. Nothing is sent
// before the import.

import { h, put, announce } from './dom.js';
import { dropZone } from './drop-zone.js';
import { importLimits, uploadDoubt } from './dataset-import.js';
import { count, plural } from './format.js';
import { begin, changed, decided, renamed, tally } from './labelling.js';
import { labelFinish } from './label-finish.js';
import { nameable, unusedFiles } from './label-names.js';
import { offers, storedList } from './label-offers.js';
import { labelOrder } from './label-order.js';
import { labelReview } from './label-review.js';
import { labelSetup } from './label-setup.js';
import { labelSheets } from './label-sheets.js';
import { labelStage } from './label-stage.js';
import { forget, isNamed, keyOf, load, store } from './label-storage.js';
import { action, problemBox } from './problem.js';
import { entries } from './zip.js';

const WHY = 'The images come in a random order: MixMatch takes those without a label to be like those with one, and labels of images that you pick yourself have other shares of the classes, which misleads the training and the test alike.';

/// The archive and its labels, as long as the tab lives: other pages may be looked at meanwhile.
let work = null;

const labels = (session) => session.decisions.length + session.picks.decisions.length + session.taken.length;
const onlyHere = () => Boolean(work?.session && labels(work.session) && !work.kept);

addEventListener('beforeunload', (event) => {
  if (onlyHere()) event.preventDefault();
});

/// Whether another tab has written of this archive.
const isOfWork = ({ key, newValue }) => key === work?.key && newValue !== null;

// What this tab had is among it, or was written over deliberately.
addEventListener('storage', (event) => {
  if (!isOfWork(event)) return;
  work.session = load(work.key, work.images.length) ?? work.session;
  work.kept = true;
});

export function label({ signal }) {
  const place = h('div');
  const limit = h('div');
  let shown = new AbortController();
  /// Of the archive, whatever is shown of it: the settings may be looked at while it is sent.
  let finish = null;
  /// A promise of what the server takes.
  let limits = null;

  /// Replaces what is below the heading; what was there ends.
  function turn(build) {
    shown.abort();
    shown = new AbortController();
    put(place, build(AbortSignal.any([signal, shown.signal])));
  }

  async function tellLimit() {
    const { file } = work;
    limits = importLimits(signal);
    const doubt = await uploadDoubt(file.size, limits);
    if (work.file === file) put(limit, doubt && h('p', { class: 'notice warn' }, `${doubt} The sheets can be made here all the same.`));
  }

  function chooseArchive() {
    turn((ended) => {
      const trouble = h('div');
      const choose = async ([file]) => {
        if (!file) return;
        put(trouble, h('p', { class: 'muted' }, `Reading the directory of ${file.name}…`));
        try {
          const opened = await openArchive(file);
          if (ended.aborted) return;
          finish?.end();
          finish = null;
          work = opened;
          tellLimit();
          if (work.session) toStage(true);
          else toSetup();
        } catch (error) {
          if (!ended.aborted) put(trouble, problemBox(unreadable(error)));
        }
      };
      return [
        dropZone({ accept: '.zip' }, choose, h('strong', null, 'Choose a ZIP of images'), ' or drop it here', h('span', { class: 'hint' }, 'JPEG, PNG or WebP: faces, or photos with a face in them. It stays on this computer until you import it.')),
        onlyHere() && h('p', { class: 'notice warn' }, 'This browser does not keep the labels so far: with another archive they are gone. Go back and download the sheets first.'),
        finish?.sending() && h('p', { class: 'notice warn' }, 'An import is under way: with another archive it is given up.'),
        trouble,
        work?.session && h('button', { type: 'button', onclick: () => toStage(false) }, h('span', { class: 'break' }, `Back to ${work.file.name}`)),
        storedList(),
      ];
    });
  }

  function toSetup() {
    const { images, left, others, session, file, key } = work;
    let setup;
    const go = (next, said) => {
      work.session = next;
      keep();
      toStage(false, said);
    };
    turn(() => {
      const sheets = session ? null : labelSheets({ images, onclasses: (names) => setup.addClasses(names) });
      setup = labelSetup({ before: session, images: images.length, more: sheets?.node, onsettings: (settings) => {
        const other = session && renamed(session.classes, settings.classes);
        const has = other && decided(session, images.length).some(({ decision }) => decision === other.at);
        const said = has && `“${other.from}” is called “${other.to}” now, and its labels are too.`;
        go(session ? changed(session, settings) : { ...begin(settings), taken: sheets.taken(settings.classes) }, said);
      }, oncancel: session ? () => toStage(false) : chooseArchive });
      return [
        h('p', { class: 'muted' }, h('span', { class: 'break' }, file.name), ` · ${plural(images.length, 'image')} to label`),
        left > 0 && h('p', { class: 'notice warn' }, `${plural(left, 'image')} more cannot be named by a sheet and will have no label: two have the same path, or there is a line break or a space at an end.`),
        others && h('p', { class: 'notice warn' }, others),
        !session && offers({ key, images, ontake: go }),
        setup.node,
      ];
    });
    setup.focus();
  }

  function toStage(again, said) {
    const { file, images, session } = work;
    const storage = h('div');
    const trouble = h('div');
    let stage;
    turn((ended) => {
      finish ??= labelFinish({ file, images, signal });
      finish.settle(session);
      const tellStorage = () => put(storage, !work.kept && h('p', { class: 'notice warn' }, 'This browser does not keep the labels: its storage is full or switched off. Download the sheets before you close or reload this page.'));
      stage = labelStage({ session, file, images, limits, signal: ended, onchange: () => {
        keep();
        tellStorage();
        finish.update();
      } });
      tellStorage();
      const sum = tally(session);
      const startOver = action('Start over', async () => {
        forget(work.key);
        work.session = null;
        toSetup();
      }, { place: trouble, kind: 'danger', confirm: 'Forget these labels?' });
      return [
        h('div', { class: 'section-head' },
          h('p', { class: 'muted' }, h('span', { class: 'break' }, file.name), ` · ${plural(images.length, 'image')}`),
          h('div', { class: 'actions' },
            h('button', { type: 'button', onclick: toReview }, 'Review'),
            h('button', { type: 'button', onclick: toSetup }, 'Settings'),
            h('button', { type: 'button', onclick: chooseArchive }, 'Another ZIP'),
            startOver)),
        said && h('p', { class: 'notice good' }, said),
        again && h('p', { class: 'hint' }, `Labelling goes on where it was: ${count(sum.train + sum.test + sum.picked)} labels were there.`),
        storage, trouble, stage.node, labelOrder({ session, images, signal: ended, onswitch: () => {
          keep();
          toStage(false);
        } }), finish.node,
      ];
    });
    stage.focus();
    if (again) announce('Labelling goes on where it was');
  }

  function toReview() {
    const { file, images, session } = work;
    let review;
    turn((ended) => {
      review = labelReview({ session, file, images, signal: ended, onback: () => toStage(false), onchange: () => {
        keep();
        finish?.update();
      } });
      return review.node;
    });
    review.focus();
  }

  /// Two tabs that label one archive would write over each other: the one that was not touched rests.
  function toRest() {
    turn(() => [
      h('p', { class: 'notice warn' }, 'This archive is being labelled in another tab too. All labels from there are here now; go on in one of the two only.'),
      h('button', { type: 'button', class: 'primary', onclick: () => toStage(true) }, 'Go on here'),
    ]);
  }

  // Called after the one of the module, which has taken the labels over.
  addEventListener('storage', (event) => {
    if (isOfWork(event)) toRest();
  }, { signal });

  if (work) tellLimit();
  if (work?.session) toStage(true);
  else if (work) toSetup();
  else chooseArchive();
  return h('div', null,
    h('p', { class: 'crumbs' }, h('a', { href: '#/datasets' }, 'Data sets')),
    h('h1', null, 'Label images'),
    h('p', { class: 'muted prose' }, WHY),
    limit, place);
}

/// Reads the directory; with the labels that this tab or this browser has for it.
async function openArchive(file) {
  const others = [];
  const all = await entries(file, (name) => others.push(name));
  const images = nameable(all);
  if (!images.length) throw new Error(['There is no JPEG, PNG or WebP file in it that a sheet could name.', unusedFiles(others) ?? 'Choose the ZIP of the images.'].join(' '));
  const key = keyOf(file, images);
  // Of an archive that is chosen again, labels that are in this tab alone are the newer ones.
  const here = onlyHere() && work.key === key ? work.session : null;
  const session = here ?? load(key, images.length);
  // One of an earlier version has no names beside it.
  if (session && !here && !isNamed(key)) store(key, session, file, images);
  return { file, images, left: all.length - images.length, others: unusedFiles(others), key, session, kept: here === null };
}

function keep() {
  work.kept = store(work.key, work.session, work.file, work.images);
}

function unreadable(error) {
  return { title: error.title ?? 'The archive cannot be used', message: error.message };
}
