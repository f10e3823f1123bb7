// The API key: kept for this tab only, and asked for when the server wants one.

import { h, put, freshId } from './dom.js';

const NAME = 'mixmatch.key';

export function key() {
  return sessionStorage.getItem(NAME) ?? '';
}

export function authorization() {
  return key() ? { authorization: `Bearer ${key()}` } : {};
}

let open = null;

/// Asks for the key; true if one was given. Requests that fail together share one dialogue.
export function askForKey(problem) {
  const why = problem ? (key() ? `This server does not take the key: ${problem.message}.` : 'This server wants a key.') : 'Needed where the server was started with a key.';
  open ??= ask(why).finally(() => {
    open = null;
  });
  return open;
}

function ask(why) {
  return new Promise((resolve) => {
    const id = freshId('key');
    const field = h('input', { id, type: 'password', autocomplete: 'off', spellcheck: 'false', value: key() });
    const close = (given) => {
      dialog.close();
      dialog.remove();
      resolve(given);
    };
    const save = (event) => {
      event.preventDefault();
      const value = field.value.trim();
      if (value) sessionStorage.setItem(NAME, value);
      else sessionStorage.removeItem(NAME);
      showKeyState();
      close(value !== '');
    };
    const dialog = h('dialog', { 'aria-labelledby': `${id}-title`, oncancel: () => close(false) },
      h('form', { onsubmit: save },
        h('h2', { id: `${id}-title` }, 'API key'),
        h('p', { class: 'muted' }, why),
        h('label', { for: id }, 'Key'), field,
        h('p', { class: 'hint' }, 'Kept until this tab is closed, and sent to this server only. Empty forgets it.'),
        h('div', { class: 'actions' },
          h('button', { type: 'submit', class: 'primary' }, 'Use this key'),
          h('button', { type: 'button', onclick: () => close(false) }, 'Cancel'))));
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  });
}

/// The button in the header says whether a key is set.
export function showKeyState() {
  const button = document.getElementById('key');
  put(button, key() ? 'Key set' : 'Key');
  button.setAttribute('aria-label', key() ? 'Change the API key; one is set' : 'Set an API key');
}
