// Sends what becomes a data set, from the form of the list and from the page that labels.

import { upload } from './api.js';
import { h, put, announce } from './dom.js';
import { go } from './router.js';
import { showProblem } from './form.js';
import { bytes } from './format.js';

/// Sends the form and leads to its data set. Problems stand beside the `fields` or in `problems`; `button` rests meanwhile.
export async function importDataset(body, { fields, problems, progress, button, signal }) {
  button.disabled = true;
  try {
    const set = await upload('/datasets', body, progress.update, signal);
    announce(`Data set ${set.name} is imported`);
    go(`#/datasets/${set.id}`);
  } catch (error) {
    if (error.name === 'AbortError') return;
    showProblem(error, fields, problems);
  } finally {
    button.disabled = false;
    progress.hide();
  }
}

/// Two phases: the bytes go out, which can be counted; then the server checks every image, which cannot.
export function uploadProgress() {
  const bar = h('progress', { max: 1, 'aria-label': 'Upload' });
  const text = h('p', { class: 'progress-text' });
  const node = h('div', { class: 'progress', hidden: true }, bar, text);
  function update(loaded, whole) {
    node.hidden = false;
    if (loaded >= whole) {
      bar.removeAttribute('value');
      put(text, 'Uploaded. The server checks every image and looks for duplicates…');
      announce('Uploaded, the server is checking');
    } else {
      bar.value = loaded / whole;
      put(text, `${bytes(loaded)} of ${bytes(whole)} uploaded`);
    }
  }
  return { node, update, hide: () => { node.hidden = true; } };
}
