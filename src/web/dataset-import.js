// Sends what becomes a data set, from the form of the list and from the page that labels.

import { get, upload } from './api.js';
import { h, put, announce, rest } from './dom.js';
import { go } from './router.js';
import { tellElsewhere, whileAsking } from './sending.js';
import { field, showProblem, textInput } from './form.js';
import { bytes } from './format.js';

/// The fields that every import has.
export const nameField = (props) => field('Name', textInput({ name: 'name', required: true, maxlength: 64, ...props }), 'Letters, digits, - _ and . such as faces-2026');
export const taskField = (props) => field('Task', textInput({ name: 'task', required: true, maxlength: 64, ...props }), 'What the labels mean; also the name of the models that learn from it');

const GIVEN_UP = 'The upload was given up';
// The server does not begin something that it would leave half done.
const ARRIVED = 'All of the upload had arrived: the server makes a data set of it all the same, unless it finds something wrong';

/// Sends the form and leads to its data set. Problems stand beside the `fields` or in `problems`; `button` rests meanwhile. It is
/// given up when somebody cancels, or leaves the page and thereby ends `signal`. `made`: as `upload` has it.
export async function importDataset(body, { made, fields, problems, progress, button, signal }) {
  put(problems);
  for (const one of Object.values(fields)) one.error(null);
  const awake = rest(button);
  const canceled = new AbortController();
  progress.begin(() => canceled.abort());
  try {
    const set = await whileAsking(() => upload('/datasets', body, progress.update, AbortSignal.any([signal, canceled.signal]), made));
    announce(`Data set ${set.name} is imported`);
    go(`#/datasets/${set.id}`);
  } catch (error) {
    if (error.name !== 'AbortError') showProblem(error, fields, problems);
    else {
      const end = progress.arrived() ? ARRIVED : GIVEN_UP;
      announce(end);
      if (signal.aborted) tellElsewhere(end);
      put(problems, h('p', { class: 'muted' }, end));
    }
  } finally {
    progress.end();
    awake();
  }
}

/// What this server takes; nothing where that cannot be had.
export const importLimits = (signal) => get('/readyz', signal).catch(() => ({}));

/// What to know before an archive of so many bytes is sent; nothing where it may be, or the limit cannot be had. The server
/// itself refuses it when it comes, which is late for whoever has labelled it.
export async function uploadDoubt(size, limits) {
  const { max_upload: most } = await limits;
  if (!(size > most)) return null;
  return `The archive has ${bytes(size)}, and this server takes ${bytes(most)} in one upload: start it with a larger --max-upload, or stop it and use mixmatch import.`;
}

/// Two phases: the bytes go out, which can be counted; then the server checks every image, which cannot. `begin(cancel)` shows it
/// with a button that cancels.
export function uploadProgress() {
  let cancel = null;
  let arrived = false;
  const bar = h('progress', { max: 1, 'aria-label': 'Upload' });
  const text = h('p', { class: 'progress-text' });
  const node = h('div', { class: 'progress upload', hidden: true }, h('div', null, bar, text),
    h('button', { type: 'button', onclick: () => cancel() }, 'Cancel the upload'));
  function begin(oncancel) {
    cancel = oncancel;
    arrived = false;
    node.hidden = false;
    bar.value = 0;
    put(text);
  }
  function update(loaded, whole) {
    arrived = whole > 0 && loaded >= whole;
    if (whole === 0) {
      bar.value = 0;
      put(text);
    } else if (arrived) {
      bar.removeAttribute('value');
      put(text, 'Uploaded. The server checks every image and looks for duplicates…');
      announce('Uploaded, the server is checking');
    } else {
      bar.value = loaded / whole;
      put(text, `${bytes(loaded)} of ${bytes(whole)} uploaded`);
    }
  }
  return { node, begin, update, arrived: () => arrived, end: () => { node.hidden = true; } };
}
