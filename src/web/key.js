// The API key: kept for this tab only, and asked for when the server wants one.

import { h, put, freshId } from './dom.js';
import { field } from './form.js';
import { command } from './shell.js';

const NAME = 'mixmatch.key';

/// Makes one that may do all that the dashboard offers.
const MAKE = 'mixmatch keys create --scope admin --name dashboard';

/// The event of the document when somebody has given a key: what an earlier one was refused may be asked for again.
export const KEY_GIVEN = 'keygiven';

/// What copying from a chat or a letter brings along.
const UNSEEN = /[\s\u00ad\u200b-\u200f\u2028-\u202f\u2060\ufeff]/g;

/// As this page knows it: where a browser blocks the data of sites, to touch the storage throws.
let held = null;

export function key() {
  held ??= stored();
  return held;
}

function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? '';
  } catch {
    return '';
  }
}

function keep(value) {
  held = value;
  try {
    if (value) sessionStorage.setItem(NAME, value);
    else sessionStorage.removeItem(NAME);
  } catch {
    // It holds until the page is loaded anew.
  }
}

export function authorization() {
  return key() ? { authorization: `Bearer ${key()}` } : {};
}

let open = null;
/// The server wants a key, and somebody has cancelled the dialogue that asked for it.
let refused = false;

/// Asks for the key; true if one was given. Requests that fail together share one dialogue. What the page asks `byItself` opens
/// none after a Cancel: it would come back every few seconds.
export async function askForKey(problem, byItself = false) {
  if (byItself && refused) return false;
  const why = problem ? (key() ? `This server does not take the key: ${problem.message}.` : 'This server wants a key.') : 'Needed where the server has keys: made with the command below, or the one that it was started with.';
  open ??= ask(why).finally(() => {
    open = null;
  }).then((given) => {
    if (given) document.dispatchEvent(new Event(KEY_GIVEN));
    return given;
  });
  const given = await open;
  if (given || problem) setRefused(!given);
  return given;
}

/// A request was answered that needs a key where there is one.
export function keyTaken() {
  setRefused(false);
}

function setRefused(is) {
  refused = is;
  document.getElementById('locked').hidden = !is;
}

function ask(why) {
  return new Promise((resolve) => {
    const id = freshId('key');
    const input = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', value: key() });
    const asked = field('Key', input, 'Kept until this tab is closed, and sent to this server only. Empty forgets it.');
    let given = false;
    // However it is closed: for a second Escape a browser may skip the event `cancel`.
    const closed = () => {
      dialog.remove();
      resolve(given);
    };
    const save = (event) => {
      event.preventDefault();
      const value = input.value.replace(UNSEEN, '');
      // A browser refuses to send such a header, and says no more of it than of a server that is gone.
      const odd = [...value].find((letter) => letter < '!' || letter > '~');
      asked.error(odd && `No key has “${odd}” in it: copy it once more, whole.`);
      if (odd) {
        input.focus();
        return;
      }
      keep(value);
      showKeyState();
      given = value !== '';
      dialog.close();
    };
    const dialog = h('dialog', { 'aria-labelledby': `${id}-title`, onclose: closed },
      h('form', { onsubmit: save },
        h('h2', { id: `${id}-title` }, 'API key'),
        h('p', { class: 'muted' }, why),
        asked.node,
        h('div', { class: 'actions' },
          h('button', { type: 'submit', class: 'primary' }, 'Use this key'),
          h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'))),
      h('h3', null, 'No key yet?'),
      h('p', { class: 'hint' }, 'Whoever runs the server makes one on its machine, where its data directory is (', h('code', null, '--data-dir'), ' names another):'), command(MAKE),
      h('p', { class: 'hint' }, 'It is shown once. With ', h('code', null, '--scope train'), ' nothing can be deleted, with ', h('code', null, '--scope predict'), ' only models be asked.'));
    document.body.append(dialog);
    dialog.showModal();
    input.select();
  });
}

/// The button in the header says whether a key is set.
export function showKeyState() {
  const button = document.getElementById('key');
  put(button, key() ? 'Key set' : 'Key');
  button.setAttribute('aria-label', key() ? 'Change the API key; one is set' : 'Set an API key');
}
