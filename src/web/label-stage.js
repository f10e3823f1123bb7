// One image after the other, a button and a key for each class.

import { h, put, announce } from './dom.js';
import { count, plural } from './format.js';
import { SKIPPED, UNSHOWN, batch, decide, decisionsOf, sequenceOf, tally, undo } from './labelling.js';
import { digitOf, keysOf } from './label-names.js';
import { orderOf } from './label-order.js';
import { pictures } from './label-pictures.js';
import { problemBox } from './problem.js';

/// So many in a row that cannot be shown are no accident: nobody is led past a whole archive.
const MOST_FAILURES = 20;

/// Of the random order, or of what was picked if that is what the session is at. What an image may be by the server's `limits` (a
/// promise) is shown. `onchange` is called after each decision. `signal` ends it.
export function labelStage({ session, file, images, limits, onchange, signal }) {
  const picking = session.picks.on;
  const sequence = picking ? session.picks.images : sequenceOf(session, images.length);
  const decisions = decisionsOf(session);
  const entryAt = (place) => images[sequence[place]];
  const keys = keysOf(session.classes);
  const shown = pictures(file, entryAt, sequence.length, limits);
  /// The place of the image that is on the page; none while the next one is on its way: nobody labels what he does not see.
  let current = null;
  let failures = 0;
  let failure = null;

  const frame = h('div', { class: 'label-frame', tabindex: '-1' });
  const name = h('p', { class: 'file' });
  /// What Undo takes back.
  const last = h('span', { class: 'file' });
  const trouble = h('div');
  const done = h('div');
  const bar = h('progress', { max: picking ? batch(session).size : session.goal, 'aria-label': picking ? 'Images that the model is least sure of' : 'Labels for training' });
  const text = h('p', { class: 'progress-text' });
  const node = h('section', { class: 'label-stage', onkeydown: pressedOnce },
    h('h2', { class: 'visually-hidden' }, 'The image and its class'),
    bar, text, frame, name,
    h('div', { class: 'label-classes', role: 'group', 'aria-label': `Class of the image, ${session.task}` }, session.classes.map((label, at) => choice(label, at, [keys[at]]))),
    h('div', { class: 'actions' },
      choice('Cannot tell', SKIPPED, [!keys.includes('0') && '0', 'Space']),
      h('button', { type: 'button', 'aria-keyshortcuts': 'Backspace ArrowLeft', onclick: (event) => pressed(event, back) }, 'Undo', h('kbd', { 'aria-hidden': 'true' }, '←')), last),
    // Below: what comes and goes there moves neither image nor buttons.
    done, trouble);

  /// Of its keys the first is shown.
  function choice(label, decision, all) {
    const own = all.filter(Boolean);
    return h('button', { type: 'button', 'aria-keyshortcuts': own.join(' ') || null, onclick: (event) => pressed(event, () => choose(decision)) },
      h('span', { class: 'break' }, label), own.length > 0 && h('kbd', { 'aria-hidden': 'true' }, own[0]));
  }

  /// A button that was clicked with a mouse must not keep the focus: the space bar would press it again.
  function pressed(event, work) {
    if (event.detail > 0) frame.focus({ preventScroll: true });
    work();
  }

  /// Held down, Enter presses a button again and again: it would label what nobody has looked at. (The space bar does when it is let go.)
  function pressedOnce(event) {
    if (event.repeat && event.key === 'Enter') event.preventDefault();
  }

  function choose(decision) {
    if (current === null || current !== decisions.length) return;
    settle(decision);
    announce(`${decision === SKIPPED ? 'Cannot tell' : session.classes[decision]}. ${howFar()}`);
    show();
  }

  function howFar() {
    const sum = tally(session);
    if (picking) return howManyPicks();
    return `${count(sum.train)} of ${count(session.goal)}${sum.train === session.goal ? ', the goal is reached' : ''}`;
  }

  function howManyPicks() {
    const { done: labelled, size } = batch(session);
    return labelled > size ? `${count(labelled)} of this order, ${count(size)} were suggested` : `${count(labelled)} of a batch of ${count(size)}`;
  }

  function settle(decision) {
    decide(session, decision, sequence[decisions.length]);
    update();
    onchange();
  }

  function back() {
    if (!undo(session)) return;
    failures = 0;
    update();
    onchange();
    announce(`Taken back. ${howFar()}`);
    show();
  }

  async function show() {
    const place = decisions.length;
    current = null;
    put(trouble, passedBy());
    if (place >= sequence.length) {
      frame.removeAttribute('aria-busy');
      put(frame, h('p', null, picking ? 'These were all images of the list.' : 'These were all images of the archive.'));
      put(name);
      return;
    }
    frame.setAttribute('aria-busy', 'true');
    shown.around(place);
    const mine = () => !signal.aborted && place === decisions.length;
    try {
      const image = await shown.at(place);
      if (!mine()) return;
      put(frame, image);
      put(name, entryAt(place).name);
      frame.removeAttribute('aria-busy');
      current = place;
      failures = 0;
    } catch (error) {
      if (mine()) passBy(error, place);
    }
  }

  function passBy(error, place) {
    // The file itself: every image would fail.
    if (['NotReadableError', 'NotFoundError'].includes(error.name)) {
      put(trouble, problemBox({ title: 'The archive cannot be read any more', message: 'the file was changed, moved or deleted since it was chosen. Choose it again: if it is the same, the labels are still there.' }));
      return;
    }
    failure = { name: entryAt(place).name, reason: error.message };
    failures += 1;
    settle(UNSHOWN);
    if (failures < MOST_FAILURES) {
      show();
      return;
    }
    const again = () => {
      failures = 0;
      show();
      frame.focus({ preventScroll: true });
    };
    put(trouble, problemBox({ title: `${MOST_FAILURES} images in a row cannot be shown or imported`, message: `the last one is ${failure.name}: ${failure.reason}` }),
      h('button', { type: 'button', onclick: again }, 'Go on with the next ones'));
  }

  function passedBy() {
    const { unshown } = tally(session);
    if (!unshown) return null;
    return h('p', { class: 'notice warn' }, `${plural(unshown, 'image')} cannot be shown by this browser, or imported by this server: passed by, without a label. `, failure && h('span', { class: 'break' }, `The last one: ${failure.name} (${failure.reason})`));
  }

  function update() {
    const sum = tally(session);
    const { done: labelled, size } = batch(session);
    bar.value = picking ? Math.min(labelled, size) : Math.min(sum.train, session.goal);
    put(text, [
      picking && `${howManyPicks()}, ${orderOf(session)}`,
      sum.train > session.goal ? `${count(sum.train)} for training, ${count(session.goal)} were wanted` : `${count(sum.train)} of ${count(session.goal)} for training`,
      session.every > 0 && `${count(sum.test)} more for the test sheet`,
      sum.picked > 0 && `${count(sum.picked)} picked`,
      ...sum.classes.map((one) => `${one.name} ${count(one.train + one.test + one.picked)}`),
      sum.skipped > 0 && `cannot tell ${count(sum.skipped)}`,
    ].filter(Boolean).join(' · '));
    const before = decisions.findLastIndex((decision) => decision !== UNSHOWN);
    put(last, before >= 0 && `${entryAt(before).name}: ${decisions[before] === SKIPPED ? 'cannot tell' : session.classes[decisions[before]]}`);
    put(done, picking && labelled >= size && h('p', { class: 'notice good' }, 'A batch is labelled: import the labels below and train again, and let the new model say which images come next. Or go on.'),
      !picking && sum.train >= session.goal && h('p', { class: 'notice good' }, 'The goal is reached: import the labels below, or go on; more of them make a better model.'));
  }

  addEventListener('keydown', (event) => {
    const work = meaning(event);
    if (!work) return;
    event.preventDefault();
    // Held down it would label what nobody has looked at.
    if (!event.repeat) work();
  }, { signal });

  function meaning(event) {
    const { key, target, ctrlKey, altKey, metaKey } = event;
    if (ctrlKey || altKey || metaKey || event.getModifierState?.('AltGraph') || document.querySelector('dialog[open]')) return null;
    if (target.closest?.('input, select, textarea, [contenteditable]')) return null;
    if (key === 'Backspace' || key === 'ArrowLeft') return back;
    // On a button or link the space bar is its own.
    if (key === ' ' && !target.closest?.('button, a, summary, [tabindex="0"]')) return () => choose(SKIPPED);
    const digit = digitOf(event);
    const at = digit === null ? -1 : keys.indexOf(digit);
    if (at >= 0) return () => choose(at);
    return digit === '0' ? () => choose(SKIPPED) : null;
  }

  update();
  show();
  const focus = () => {
    frame.focus({ preventScroll: true });
    node.scrollIntoView({ block: 'nearest' });
  };
  return { node, focus };
}
