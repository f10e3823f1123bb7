// Labelled form fields whose problems stand beside them.

import { h, put, freshId } from './dom.js';
import { isOfRow, problemBox } from './problem.js';

/// A field: `{ node, input, hint, error(text) }`. `input` is any form control.
export function field(label, input, hint) {
  const id = freshId('field');
  const wrong = h('p', { class: 'field-error', id: `${id}-error` });
  input.id = id;
  input.setAttribute('aria-describedby', `${hint ? `${id}-hint ` : ''}${id}-error`);
  const below = hint && h('p', { class: 'hint', id: `${id}-hint` }, hint);
  const node = h('div', { class: 'field' }, h('label', { for: id }, label), input, below, wrong);
  const error = (text) => {
    put(wrong, text ?? '');
    if (text) input.setAttribute('aria-invalid', 'true');
    else input.removeAttribute('aria-invalid');
  };
  return { node, input, hint: below, error };
}

export const textInput = (props) => h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', ...props });

export function select(options, chosen) {
  return h('select', null, options.map(([value, text]) => h('option', { value, selected: value === chosen }, text)));
}

/// The most complaints that stand beside one field.
const HANDFUL = 5;

/// Puts each of a problem's errors beside the field that its pointer names, or leads into; the rest goes to `place`, rows of a
/// sheet among it: the field that the sheet was chosen in is right. Several names may stand for one field.
export function showProblem(error, fields, place) {
  for (const one of Object.values(fields)) one.error(null);
  put(place);
  const found = new Map();
  const rest = [];
  for (const item of error.errors ?? []) {
    const [first] = item.pointer.replace(/^[/?]/, '').split('/');
    const name = first.replace(/~1/g, '/').replace(/~0/g, '~');
    const one = !isOfRow(item.pointer) && fields[name];
    if (one) found.set(one, [...(found.get(one) ?? []), item.detail]);
    else rest.push(item);
  }
  for (const [one, details] of found) one.error(joined(details));
  if (rest.length || !found.size) put(place, problemBox({ title: error.title, message: error.message, errors: rest }));
  Object.values(fields).find((one) => found.has(one))?.input.focus();
}

function joined(details) {
  const more = details.length - HANDFUL;
  return [...details.slice(0, HANDFUL), ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}
