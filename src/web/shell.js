// Commands to copy, written for this server's own address.

import { h, put } from './dom.js';
import { key } from './key.js';

const KEY = '-H "Authorization: Bearer $MIXMATCH_API_KEY"';

/// A curl command; each argument on a line of its own.
export function curl(path, ...parts) {
  const address = `'${location.origin}${path}'`;
  return ['curl', ...(key() ? [KEY] : []), ...parts, address].join(' \\\n  ');
}

export const curlImport = () => curl('/datasets', '-F name=faces -F task=mask', '-F images=@images.zip', '-F train=@train.csv -F test=@test.csv');

/// `most` labels can be trained on: an example that is refused teaches nothing.
export const curlTrain = (dataset = 'faces', most = 200) => curl('/jobs', "-H 'content-type: application/json'",
  `-d '${JSON.stringify({ dataset, algorithm: 'mixmatch', labelled: Math.min(200, most), seed: 1 })}'`);

/// `more` follows in the query: what a page asks with, so that the command gives the page's answer.
export const curlPredict = (model = 'mask', more = {}) => curl(`/predict?${Object.entries({ model, ...more }).map((pair) => pair.join('=')).join('&')}`,
  "-H 'content-type: image/jpeg'", '--data-binary @face.jpg');

export function command(text) {
  const button = h('button', { type: 'button', class: 'small', onclick: copy }, 'Copy');
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      put(button, 'Copied');
    } catch {
      // A browser may be told to refuse it; the text can be marked by hand.
      put(button, 'Not allowed');
    }
    setTimeout(() => put(button, 'Copy'), 2000);
  }
  // Browsers offer the clipboard to secure origins only, and localhost counts as one.
  return h('div', { class: 'command' }, h('pre', { tabindex: '0' }, h('code', null, text)), navigator.clipboard && button);
}
