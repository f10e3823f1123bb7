// A place that files are dropped on, or chosen with.

import { h } from './dom.js';

/// `add` is called with the files; `props` are the file input's.
export function dropZone(props, add, ...children) {
  const input = h('input', { type: 'file', class: 'visually-hidden', ...props, onchange: () => {
    // A copy: the list is the input's own and goes with its value.
    const files = [...input.files];
    // The same file may be chosen again.
    input.value = '';
    add(files);
  } });
  const zone = h('label', { class: 'drop' }, input, children);
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle('over', on);
  };
  zone.addEventListener('dragover', over(true));
  zone.addEventListener('dragleave', over(false));
  zone.addEventListener('drop', (event) => {
    over(false)(event);
    add([...event.dataTransfer.files]);
  });
  return zone;
}
