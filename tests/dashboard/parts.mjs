// What stands on the pages, found as people find it: by role, name and label.

import { utimes, writeFile } from 'node:fs/promises';

import { until } from './walk.mjs';

/// Hyper-parameters of a run of two epochs, a second of work. Small, as trainings come last on a busy machine; float32, as
/// bf16 has its kernels compiled first.
export const SMALL_STEPS = '"steps_per_epoch": 6, "network": "wrn-10-1", "size": 16, "precision": "float32"';
export const SHORT_RUN = `{"epochs": 2, ${SMALL_STEPS}}`;

export const title = (page, name) => page.getByRole('heading', { level: 1, name });

export const table = (page, caption) => page.getByRole('table', { name: caption, exact: true });

/// A table's rows without its head.
export const rows = (page, caption) => table(page, caption).getByRole('row').filter({ has: page.getByRole('cell') });

/// The words of each cell of a table, row by row, without its head; waits for the table.
export const cells = (page, caption) => table(page, caption).evaluate((node) => [...node.tBodies]
  .flatMap((body) => [...body.rows]).map((row) => [...row.cells].map((cell) => cell.textContent.trim())));

export const button = (page, name) => page.getByRole('button', { name, exact: true });

/// A field by its label; what follows the label inside it (an output) does not count.
export const field = (page, label) => page.getByLabel(label, { exact: true });

/// What stands beside a field as wrong, as soon as there is anything.
export async function complaint(page, label) {
  const input = field(page, label);
  return until(`“${label}” is marked as wrong`, () => input.evaluate((node) => {
    if (node.getAttribute('aria-invalid') !== 'true') return '';
    return node.getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id).textContent).at(-1);
  }));
}

/// A page of the navigation.
export async function goTo(page, name, heading = name) {
  await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name, exact: true }).click();
  await title(page, heading).waitFor();
}

/// Fills in the import form with a set of `drawnSet`, and sends it.
export async function importSet(page, { name, task, set }) {
  await field(page, 'Name').fill(name);
  await field(page, 'Task').fill(task);
  await field(page, 'Images').setInputFiles(set.images);
  await field(page, 'Training sheet').setInputFiles(set.train);
  await field(page, 'Test sheet (optional)').setInputFiles(set.test);
  await button(page, 'Import').click();
}

/// Fills in the form of a new job: a text, a choice's value or whether a box is ticked for each label.
export async function fillJob(page, values) {
  for (const [label, value] of Object.entries(values)) {
    if (typeof value === 'boolean') await field(page, label).setChecked(value);
    else if (['Preset', 'Algorithm', 'Pictures'].includes(label)) await field(page, label).selectOption(value);
    else await field(page, label).fill(value);
  }
}

/// Changes a file, some time later as browsers see it: they tell its states apart by their times.
export async function change(path, content) {
  await writeFile(path, content);
  const later = Date.now() / 1000 + 60;
  await utimes(path, later, later);
}

/// Looks at the page, or away from it: in a headless browser every page is looked at.
export const look = (page, at) => page.evaluate((hidden) => {
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}, !at);

/// What has the focus, as people know it: its name, or else its text.
export const focused = (page) => page.evaluate(() => {
  const { activeElement: node } = document;
  return node.id === 'main' ? 'the page' : node.ariaLabel ?? node.textContent.slice(0, 100);
});

/// For `page.evaluate`: what sticks out of the window to the right; nothing where the page cannot be scrolled there.
export function tooWide() {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  const out = [...document.querySelectorAll('body *')].filter((node) => node.getBoundingClientRect().right > clientWidth);
  return [`${scrollWidth} of ${clientWidth} pixels`, ...out.slice(-5).map((node) => node.outerHTML.slice(0, 200))];
}
