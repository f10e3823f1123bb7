// A place that files are dropped on, or chosen with.

import { h, put } from './dom.js';

/// `add` is called with the files; `props` are the file input's.
export function dropZone(props, add, ...children) {
  const wrong = h('p', { class: 'field-error', role: 'alert' });
  const take = (files) => {
    put(wrong);
    add(files);
  };
  const input = h('input', { type: 'file', class: 'visually-hidden', ...props, onchange: () => {
    // A copy: the list is the input's own and goes with its value.
    const files = [...input.files];
    // The same file may be chosen again.
    input.value = '';
    take(files);
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
    // A folder comes as a file that cannot be read.
    const items = [...event.dataTransfer.items].filter((item) => item.kind === 'file');
    const folders = items.filter((item) => item.webkitGetAsEntry()?.isDirectory);
    const files = items.filter((item) => !folders.includes(item)).map((item) => item.getAsFile());
    take(files);
    if (folders.length) put(wrong, `A folder cannot be read here: choose ${props.multiple ? 'its images' : 'a ZIP of it'}`);
  });
  return h('div', null, zone, wrong);
}
