// One image and what was said of it.

import { h, put, svg } from './dom.js';
import { isUndecided } from './predict-summary.js';
import { percent } from './format.js';

/// `askAgain(card)` asks about it once more.
export function resultCard(file, signal, askAgain) {
  const address = URL.createObjectURL(file);
  const free = () => {
    URL.revokeObjectURL(address);
    signal.removeEventListener('abort', free);
  };
  signal.addEventListener('abort', free);
  const picture = h('img', { src: address, alt: '', onerror: () => picture.classList.add('unseen') });
  const place = h('div', { class: 'thumb' }, picture);
  const answer = h('div', { class: 'answer', 'aria-busy': 'true', tabindex: '-1' });
  const name = file.name || 'pasted image';
  const node = h('li', { class: 'result' }, place, h('div', { class: 'said' }, h('p', { class: 'file' }, name), answer));
  let result = null;
  /// Why there is no answer, and whether there may be one another time.
  let failure = null;
  /// Whether the server is asked about it, or others are still before it.
  let sent = false;

  function show(next, threshold) {
    if (next.problem) {
      refuse(next.problem.detail);
      return;
    }
    result = next;
    answer.removeAttribute('aria-busy');
    settle(threshold);
    frame(result.face);
  }

  /// The square that was classified, over the picture, which fills its place in the same way.
  async function frame(face) {
    place.querySelector('svg')?.remove();
    await picture.decode().catch(() => {});
    const { naturalWidth: width, naturalHeight: height } = picture;
    // Meanwhile another model may have been asked.
    if (!face || !width || result?.face !== face) return;
    const { left, top, side, roll } = face;
    const turned = `rotate(${roll} ${left + side / 2} ${top + side / 2})`;
    place.append(svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'xMidYMid slice', 'aria-hidden': 'true' },
      svg('rect', { x: left, y: top, width: side, height: side, transform: turned })));
  }

  /// The slider decides again without asking again: the probabilities are here.
  function settle(threshold) {
    if (!result) return;
    const faceless = result.face === null;
    const abstained = isUndecided(result, threshold);
    node.classList.toggle('abstained', abstained);
    const ranked = Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]);
    put(answer,
      h('p', { class: 'label' }, abstained ? 'undecided' : result.label, h('span', { class: 'muted tabular' }, ` ${percent(result.probability)}`)),
      faceless && h('p', { class: 'muted' }, 'No face was found: this is about the whole picture.'),
      h('ul', { class: 'probabilities' }, ranked.map(([name, share]) => h('li', null,
        h('span', null, name), h('span', { class: 'track' }, h('span', { class: 'bar-fill', style: `width:${(100 * share).toFixed(1)}%` })), h('span', { class: 'tabular' }, percent(share))))));
  }

  function wait() {
    [result, failure, sent] = [null, null, false];
    node.classList.remove('bad', 'abstained');
    place.querySelector('svg')?.remove();
    answer.setAttribute('aria-busy', 'true');
    put(answer, h('p', { class: 'muted' }, '…'));
  }

  function send() {
    sent = true;
  }

  /// Of this image there is none, whoever asks.
  function refuse(detail) {
    failure = { detail, again: false };
    answer.removeAttribute('aria-busy');
    node.classList.add('bad');
    put(answer, h('p', { class: 'field-error' }, detail));
  }

  /// No answer came, for `detail`.
  function miss(detail) {
    if (result || failure) return;
    failure = { detail, again: true };
    answer.removeAttribute('aria-busy');
    const button = h('button', { type: 'button', class: 'small', 'aria-label': `Ask again about ${name}`, onclick: () => {
      // It goes with what it stands in.
      answer.focus({ preventScroll: true });
      askAgain(card);
    } }, 'Ask again');
    put(answer, h('p', { class: 'muted' }, 'no answer'), detail && h('p', { class: 'hint' }, detail), button);
  }

  const card = {
    file, node, show, settle, wait, send, refuse, miss, free,
    said: () => ({ name, result, sent, error: failure && (failure.detail || 'no answer') }),
    mayAskAgain: () => failure?.again === true,
  };
  return card;
}
