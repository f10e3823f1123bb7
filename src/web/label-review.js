// Labels to look at again: small pictures of one class, sixty at a time; one that is opened gets another label.

import { announce, h, put } from './dom.js';
import { field, select } from './form.js';
import { count } from './format.js';
import { decoded, thumbnail } from './label-pictures.js';
import { SKIPPED, decided, relabel } from './labelling.js';
import { problemBox } from './problem.js';

const PAGE = 60;
/// Decoded at the same time: a photo takes tens of megabytes until it is small.
const AT_ONCE = 3;
const KINDS = { train: 'training', test: 'test sheet', picked: 'picked' };

/// `onchange` is called after each new label, `onback` where labelling goes on. `signal` ends it.
export function labelReview({ session, file, images, onchange, onback, signal }) {
  const names = [...session.classes.map((name, decision) => [decision, name]), [SKIPPED, 'cannot tell']];
  const nameOf = (decision) => names.find(([one]) => one === decision)[1];
  const listOf = (decision) => decided(session, images.length).filter((one) => one.decision === decision).reverse();
  const body = h('div');
  const chosen = field('Class', select(namesAndCounts(), null));
  let page = 0;
  let pageShown = new AbortController();
  const node = h('section', { class: 'label-review' },
    h('div', { class: 'section-head' }, h('h2', null, 'Review labels'), h('button', { type: 'button', class: 'primary', onclick: onback }, 'Back to labelling')),
    h('div', { class: 'inline-fields' }, chosen.node), body);
  chosen.input.addEventListener('change', () => {
    page = 0;
    showPage();
  });

  function namesAndCounts() {
    const all = decided(session, images.length);
    return names.map(([decision, name]) => [String(decision), `${name} (${count(all.filter((one) => one.decision === decision).length)})`]);
  }

  /// Ends what is shown below the choice of the class.
  function turn(...children) {
    pageShown.abort();
    pageShown = new AbortController();
    put(body, children);
    return AbortSignal.any([signal, pageShown.signal]);
  }

  /// With the focus on the picture of that number in the list, or near it.
  function showPage(focusAt = null) {
    [...chosen.input.options].forEach((option, at) => put(option, namesAndCounts()[at][1]));
    const list = listOf(Number(chosen.input.value));
    page = Math.max(0, Math.min(page, Math.ceil(list.length / PAGE) - 1));
    const from = page * PAGE;
    const some = list.slice(from, from + PAGE);
    const buttons = some.map((one, at) => h('button', { type: 'button', onclick: () => openOne(one, from + at) },
      h('span', { class: 'picture' }), h('span', { class: 'file' }, images[one.image].name), one.kind !== 'train' && h('span', { class: 'badge' }, KINDS[one.kind])));
    const go = (pages) => {
      page += pages;
      showPage(page * PAGE);
    };
    const ended = turn(
      list.length ? h('ul', { class: 'label-thumbs' }, buttons.map((one) => h('li', null, one))) : h('p', { class: 'muted' }, 'Nothing has this label.'),
      list.length > PAGE && h('div', { class: 'actions' },
        h('button', { type: 'button', disabled: page === 0, onclick: () => go(-1) }, 'Previous'),
        h('span', { class: 'muted' }, `${count(from + 1)} to ${count(from + some.length)} of ${count(list.length)}`),
        h('button', { type: 'button', disabled: from + PAGE >= list.length, onclick: () => go(1) }, 'Next')));
    if (focusAt !== null) (buttons[Math.min(focusAt - from, buttons.length - 1)] ?? chosen.input).focus();
    const waiting = some.map((one, at) => [one, buttons[at].firstChild]);
    for (let one = 0; one < AT_ONCE; one += 1) drawNext(waiting, ended);
  }

  async function drawNext(waiting, ended) {
    while (waiting.length && !ended.aborted) {
      const [{ image }, place] = waiting.shift();
      try {
        put(place, await thumbnail(file, images[image]));
      } catch {
        put(place, 'cannot be shown');
      }
    }
  }

  async function openOne(one, at) {
    const { name } = images[one.image];
    const frame = h('div', { class: 'label-frame', tabindex: '-1', 'aria-busy': 'true' });
    const back = () => showPage(at);
    const choice = ([decision, label]) => h('button', { type: 'button', 'aria-pressed': String(decision === one.decision), onclick: () => {
      if (decision !== one.decision) {
        relabel(session, one, decision);
        onchange();
        announce(`${name}: ${label}`);
      }
      back();
    } }, h('span', { class: 'break' }, decision === SKIPPED ? 'Cannot tell' : label));
    const ended = turn(h('div', { class: 'label-stage', onkeydown: (event) => event.key === 'Escape' && back() },
      frame, h('p', { class: 'file' }, name), h('p', { class: 'muted break' }, `So far: ${nameOf(one.decision)}, ${KINDS[one.kind]}. What it is for stays.`),
      h('div', { class: 'label-classes', role: 'group', 'aria-label': `Class of the image, ${session.task}` }, names.map(choice)),
      h('div', { class: 'actions' }, h('button', { type: 'button', onclick: back }, 'Back to the others'))));
    frame.focus({ preventScroll: true });
    frame.scrollIntoView({ block: 'nearest' });
    try {
      const picture = await decoded(file, images[one.image]);
      if (!ended.aborted) put(frame, picture);
    } catch (error) {
      if (!ended.aborted) put(frame, problemBox({ title: 'It cannot be shown', message: error.message }));
    }
    frame.removeAttribute('aria-busy');
  }

  // Where there is something to see.
  const first = names.find(([decision]) => listOf(decision).length > 0);
  if (first) chosen.input.value = String(first[0]);
  showPage();
  return { node, focus: () => chosen.input.focus({ preventScroll: true }) };
}
