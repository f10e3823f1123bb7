// What this browser keeps of other archives: a list of it, and what of it an archive can take over.

import { h, put } from './dom.js';
import { count, plural, when } from './format.js';
import { carried, kindsOf } from './label-carry.js';
import { KINDS, SKIPPED, begin } from './labelling.js';
import { allStored, forget } from './label-storage.js';
import { action } from './problem.js';

/// Which ZIPs have labels here. Those of the archive that is open stay: *Start over* is for them.
export function storedList() {
  const node = h('div');
  const trouble = h('div');
  const line = (one) => h('li', null, h('span', null, h('strong', { class: 'break' }, one.file), `: ${lines(one)}`), ' ', !one.open && removal(one));
  const removal = ({ key, file }) => action('Forget', async () => {
    forget(key);
    draw();
  }, { kind: 'small danger', confirm: 'Forget these labels?', of: `of ${file}`, place: trouble, said: `Forgotten: the labels of ${file}` });

  function draw() {
    const stored = allStored();
    put(node, stored.length > 0 && h('section', null, h('h2', null, 'Labels that this browser keeps'),
      h('ul', { class: 'label-stored' }, stored.map(line)), trouble,
      h('p', { class: 'hint' }, 'Choose such a ZIP again to go on, under whatever name. With one that has the same images and others too, the labels can be taken over.')));
  }

  draw();
  return node;
}

const lines = ({ count: labels, images, at, session }) => [`${count(labels)} of ${plural(images, 'image')} labelled`, `task ${session.task}`, at && when(at)].filter(Boolean).join(', ');

/// Labels of other archives for images of this one, each with a button that calls `ontake` with a session that has them.
export function offers({ key, images, ontake }) {
  const others = allStored().filter((one) => one.key !== key);
  const list = others.filter(({ labels }) => labels).map((one) => ({ ...one, ...carried(valid(one), images) })).filter(({ taken }) => labelled(taken).length > 0);
  const unnamed = others.filter(({ labels }) => !labels);
  return [
    list.map((one) => h('div', { class: 'notice good' },
      h('p', null, h('span', { class: 'break' }, `${count(labelled(one.taken).length)} of the ${plural(one.count, 'label')} of ${one.file} (${[`task ${one.session.task}`, one.at && when(one.at)].filter(Boolean).join(', ')})`),
        ` ${labelled(one.taken).length === 1 ? 'is' : 'are'} of images in this ZIP: ${kindsOf(labelled(one.taken))}.`),
      h('button', { type: 'button', class: 'primary', 'aria-label': `Take the labels of ${one.file} over`, onclick: () => ontake(session(one, images)) }, 'Take them over'))),
    unnamed.length > 0 && h('p', { class: 'hint' }, h('span', { class: 'break' }, `Labels of ${unnamed.map(({ file }) => file).join(', ')} stand here by an earlier version, without names: choose that very ZIP once, and they can be taken over.`)),
  ];
}

const labelled = (taken) => taken.filter(({ decision }) => decision >= 0);

const valid = ({ labels, session: { classes } }) => labels
  .filter(({ name, decision, kind }) => typeof name === 'string' && (decision === SKIPPED || classes[decision] !== undefined) && KINDS.includes(kind));

/// Another order, of what has no label yet.
function session({ session: { classes, task, goal, every }, taken }, images) {
  return { ...begin({ classes, task, goal: Math.min(goal, images.length), every }), taken: taken.map(({ image, decision, kind }) => ({ image, decision, kind })) };
}
