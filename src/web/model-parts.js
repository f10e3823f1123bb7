// Models as a table, shared by the overview and the models' page.

import { all } from './api.js';
import { h } from './dom.js';
import { table } from './table.js';
import { testAccuracy, validationAccuracy } from './accuracy.js';
import { fewClasses } from './dataset-parts.js';
import { count, score, when } from './format.js';

export const CHAMPION = 'champion';

/// All models, each with all its versions: on the server's pages a model with many goes on under the same name.
export async function allModels(signal) {
  const models = new Map();
  for (const part of await all('/models', signal)) {
    const begun = models.get(part.name);
    if (begun) begun.versions.push(...part.versions);
    else models.set(part.name, part);
  }
  return [...models.values()];
}

/// The version that answers when only the model's name is given.
export function champion(model) {
  return model.versions.find((version) => version.version === model.aliases[CHAMPION]);
}

export function modelTable(models) {
  const rows = models.map((model) => ({ model, version: champion(model) ?? model.versions[0] }));
  return table([
    { head: 'Model', cell: ({ model }) => h('a', { href: '#/models' }, model.name) },
    { head: 'Champion', cell: ({ model, version }) => (champion(model) ? `version ${version.version}` : `none; the newest is version ${version.version}`) },
    { head: 'Classes', cell: ({ version }) => classList(version.classes) },
    { head: 'Validation accuracy', number: true, cell: ({ version }) => validationAccuracy(version.metrics.validation) },
    { head: 'Test accuracy', number: true, cell: ({ version }) => testAccuracy(version.metrics.test) },
    { head: 'Test F1 macro', number: true, cell: ({ version }) => score(version.metrics.test?.f1_macro) },
    { head: 'Versions', number: true, cell: ({ model }) => String(model.versions.length) },
    { head: 'Published', number: true, cell: ({ version }) => when(version.created_at) },
  ], rows, { caption: 'Models and their champions' });
}

function classList(classes) {
  const { shown, left } = fewClasses(classes);
  return `${shown.join(', ')}${left > 0 ? ` and ${count(left)} more classes` : ''}`;
}

/// Gender models answer with what an annotator saw, and the page says so.
export function isGender(name, classes = []) {
  const words = new Set(classes.map((word) => word.toLowerCase()));
  return /gender|sex/i.test(name) || (words.has('female') && words.has('male'));
}

export function genderNote() {
  return h('p', { class: 'hint' }, 'perceived gender, binary, as annotated in the data set');
}
