// Shows the server's problem+json, every line of it.

import { announce, h, put, rest } from './dom.js';

const SHOWN = 200;

export function problemBox(error) {
  const problems = error.errors ?? [];
  const alone = problems.length === 1 && error.message.includes(problems[0].detail);
  return h('div', { class: 'notice bad', role: 'alert' },
    h('p', null, h('strong', null, error.title ?? 'Something went wrong'), ' – ', error.message),
    problems.length > 0 && !alone && problemList(problems));
}

function problemList(problems) {
  return [
    h('ul', { class: 'problems' }, problems.slice(0, SHOWN).map((item) => h('li', null,
      item.pointer && [h('code', null, place(item.pointer)), ': '], item.detail))),
    problems.length > SHOWN && h('p', null, `and ${problems.length - SHOWN} more`),
  ];
}

const ROW = /^\/(train|test|archive)\/(\d+)$/;

/// Whether something inside a file is wrong: of those there may be as many as the file has rows.
export const isOfRow = (pointer) => ROW.test(pointer);

/// `/train/17` points at a row of a sheet, `/archive/17` at a file in the ZIP; other pointers are fields.
function place(pointer) {
  const row = ROW.exec(pointer);
  if (!row) return pointer.replace(/^[/?]/, '');
  return row[1] === 'archive' ? `archive, file ${row[2]}` : `${row[1]} sheet, row ${row[2]}`;
}

/// Runs an action behind a button: disabled meanwhile, its problem shown in `place`. Where many buttons look alike, `of` says in
/// their names what each is for; `said` is announced of an action that shows in another place than its button.
export function action(label, work, { place: where, kind, confirm, of, said } = {}) {
  let armed = false;
  const button = h('button', { type: 'button', class: kind });
  const face = (text) => {
    put(button, text);
    if (of) button.setAttribute('aria-label', `${text} ${of}`);
  };
  const disarm = () => {
    armed = false;
    face(label);
  };
  disarm();
  button.addEventListener('click', async (event) => {
    // The second click is the confirmation: no dialogue that people learn to dismiss unread.
    if (confirm && !armed) {
      armed = true;
      face(confirm);
      announce([confirm, of].filter(Boolean).join(' '));
      return;
    }
    // A double click is one click to whoever made it: it confirms nothing.
    if (confirm && event.detail > 1) return;
    const awake = rest(button);
    put(where);
    try {
      await work();
      if (said) announce(said);
    } catch (error) {
      if (error.status === undefined) console.error(error);
      put(where, problemBox(error));
    } finally {
      disarm();
      awake();
    }
  });
  if (confirm) {
    button.addEventListener('blur', disarm);
    // Nor does Enter that is held down, which clicks again and again.
    button.addEventListener('keydown', (event) => event.repeat && event.key === 'Enter' && event.preventDefault());
  }
  return button;
}
