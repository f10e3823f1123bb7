// What is asked before labelling begins, and may be changed later: classes, task, how many labels, the share for the test.

import { h, put } from './dom.js';
import { field, select, textInput } from './form.js';
import { count, whole } from './format.js';
import { classNames } from './label-names.js';

/// A quarter more than the 250 that most want to train on.
const GOAL = 313;
const EVERY = '4';
const SHARES = [['0', 'none'], ['5', 'every 5th image'], ['4', 'every 4th image'], ['3', 'every 3rd image'], ['2', 'every 2nd image']];
// As the server wants it, see src/api/upload.rs.
const TASK = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/// `before` are the settings so far, if there are any, `more` stands below the fields; `onsettings` may throw what is wrong with the
/// classes. `addClasses(names)` writes those that are not there.
export function labelSetup({ before, images, more, onsettings, oncancel }) {
  const fields = {
    classes: field('Classes', h('textarea', { rows: 4, spellcheck: 'false', autocapitalize: 'off', placeholder: 'mask\nno_mask', value: before?.classes.join('\n') ?? '' }), 'Two or more, one on each line or with commas between them. The first nine have the keys 1 to 9; one that is a digit has that key.'),
    task: field('Task', textInput({ maxlength: 64, value: before?.task ?? '' }), 'What the labels mean, such as mask; also the name of the models that learn from it'),
    goal: field('Labels for training', textInput({ inputmode: 'numeric', value: before?.goal ?? Math.min(GOAL, images) }), 'A quarter more than you want to train on: a fifth of them is held out to choose the best epoch. 313 give 250.'),
    every: field('For the test sheet', select(SHARES, String(before?.every ?? EVERY)), ' '),
  };
  const describe = () => {
    const [goal, every] = [whole(fields.goal.input.value), Number(fields.every.input.value)];
    const more = every > 0 && goal > 0 ? Math.floor((goal - 1) / (every - 1)) : 0;
    put(fields.every.hint, every > 0 ? `Nobody trains on these: they give the honest figures at the end. About ${count(more)} labels more.` : 'Without them no figure comes from images that nobody trained on.');
  };
  fields.goal.input.addEventListener('input', describe);
  fields.every.input.addEventListener('change', describe);
  describe();
  const node = h('form', { class: 'panel', novalidate: true, onsubmit: submit },
    h('div', { class: 'grid' }, Object.values(fields).map((one) => one.node)), more,
    h('div', { class: 'actions' },
      h('button', { type: 'submit', class: 'primary' }, before ? 'Go on labelling' : 'Start labelling'),
      oncancel && h('button', { type: 'button', onclick: oncancel }, 'Cancel')));

  function submit(event) {
    event.preventDefault();
    for (const one of Object.values(fields)) one.error(null);
    const { names, problem } = classNames(fields.classes.input.value);
    const task = fields.task.input.value.trim();
    const goal = whole(fields.goal.input.value);
    if (problem) fields.classes.error(problem);
    if (!TASK.test(task)) fields.task.error('A word of up to 64 letters, digits, - _ and . that begins with a letter or digit');
    if (!Number.isInteger(goal) || goal < 1 || goal > images) fields.goal.error(`A whole number from 1 to ${images}, in digits alone: that many images can be labelled`);
    const wrong = Object.values(fields).find(({ input }) => input.hasAttribute('aria-invalid'));
    if (wrong) {
      wrong.input.focus();
      return;
    }
    try {
      onsettings({ classes: names, task, goal, every: Number(fields.every.input.value) });
    } catch (error) {
      fields.classes.error(error.message);
      fields.classes.input.focus();
    }
  }

  function addClasses(names) {
    const { input } = fields.classes;
    const known = classNames(input.value).names;
    const fresh = names.filter((one) => !known.includes(one));
    if (fresh.length) input.value = [...known, ...fresh].join('\n');
  }

  return { node, addClasses, focus: () => fields.classes.input.focus() };
}
