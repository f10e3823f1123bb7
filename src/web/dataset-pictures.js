// What a data set looks like, and what training would make of it: sheets that the server draws.

import { send } from './api.js';
import { h, put, rest } from './dom.js';
import { field, select, showProblem } from './form.js';
import { problemBox } from './problem.js';
import { FITS, PRESETS } from './view-job-new.js';

const number = (props) => h('input', { type: 'number', inputmode: 'decimal', placeholder: 'preset', ...props });
const share = (max) => number({ min: 0, max, step: 0.05 });
const choice = (...options) => select([['', 'as in the preset'], ...options], '');

const sizeField = (value) => field('Size', number({ min: 8, max: 128, step: 4, value: value ?? '' }), 'Side of the network’s input, pixels');
const fitField = () => field('Pictures', choice(...FITS));
const seedField = () => field('Seed', number({ min: 0, step: 1, value: 0 }), 'Another seed, other images');

/// Three sheets; each is asked for when it is opened.
export function pictures(path, signal) {
  return [
    panel('Samples', `${path}/samples.png`, { size: sizeField(64), fit: fitField(), seed: seedField() }, signal, true),
    panel('Augmentations', `${path}/augmentations.png`, {
      preset: field('Preset', select(PRESETS, 'quick'), 'Every value that is not given comes from here'),
      k: field('K', number({ min: 1, max: 16, step: 1, value: 4 }), 'Views of each image'),
      size: sizeField(),
      fit: fitField(),
      seed: seedField(),
      augment_policy: field('Policy', choice(['compose', 'all that are on, one after another'], ['one_of_seven', 'exactly one of seven'])),
      augment_flip: field('Mirror', choice(['true', 'half of them'], ['false', 'none'])),
      augment_pad: field('Shift', number({ min: 0, step: 1 }), 'At most so many pixels'),
      augment_rotation: field('Rotation ±', number({ min: 0, max: 180, step: 1 }), 'Degrees'),
      augment_scale: field('Zoom 1 ±', share(0.5)),
      augment_fill: field('Beyond the border', choice(['reflect', 'mirrored'], ['black', 'black'])),
      augment_brightness: field('Brightness 1 ±', share(0.9)),
      augment_contrast: field('Contrast 1 ±', share(0.9)),
      augment_saturation: field('Saturation 1 ±', share(0.9)),
      augment_hue: field('Hue ±', share(0.5), 'As a share of the circle'),
      augment_gamma: field('Gamma 1 ±', share(0.9)),
      augment_grayscale: field('Grayscale', share(1), 'Probability'),
      augment_erase: field('Erased square', share(0.9), 'Its side, as a share of the image’s'),
    }, signal),
    panel('Mixup', `${path}/mixup.png`, {
      alpha: field('α', number({ min: 0.01, max: 100, step: 0.05 }), 'λ is drawn from Beta(α, α)'),
      seed: seedField(),
    }, signal),
  ];
}

function panel(title, path, fields, signal, open) {
  const place = h('div', { class: 'sheet', tabindex: 0, role: 'region', 'aria-label': title });
  const problems = h('div');
  const button = h('button', { type: 'submit' }, 'Draw');
  let address;
  const free = () => address && URL.revokeObjectURL(address);
  signal.addEventListener('abort', free, { once: true });

  async function draw() {
    const awake = rest(button);
    for (const one of Object.values(fields)) one.error(null);
    put(problems);
    try {
      const response = await send('GET', `${path}?${query(fields)}`, { headers: { accept: 'image/png, application/problem+json' }, signal });
      const picture = await response.blob();
      free();
      address = URL.createObjectURL(picture);
      put(place, h('img', { src: address, alt: `${title} of this data set` }));
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (error.errors?.length) showProblem(error, fields, problems);
      else put(problems, problemBox(error));
    } finally {
      awake();
    }
  }

  const submit = (event) => {
    event.preventDefault();
    draw();
  };
  const first = (event) => event.target.open && !place.firstChild && draw();
  return h('details', { open, ontoggle: first }, h('summary', null, title),
    h('form', { class: 'panel', novalidate: true, onsubmit: submit },
      h('div', { class: 'grid narrow' }, Object.values(fields).map((one) => one.node)), problems, h('div', { class: 'actions' }, button)),
    place);
}

/// What is filled in; the rest is the preset's.
function query(fields) {
  const given = Object.entries(fields).map(([name, { input }]) => [name, input.value.trim()]).filter(([, text]) => text !== '');
  return new URLSearchParams(given).toString();
}
