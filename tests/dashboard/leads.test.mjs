// What leads to the page that labels, and what the examples tell.

import assert from 'node:assert/strict';

import { drawnSet } from './drawn.mjs';
import { goTo, importSet, title } from './parts.mjs';
import { walk } from './walk.mjs';

walk('ways to the labels', {}, (step) => {
  const leads = async (page, name) => {
    await page.getByRole('link', { name, exact: true }).click();
    await title(page, 'Label images').waitFor();
  };

  step('on an empty server, with an example that has no number but its own', async ({ page, open }) => {
    await open('', 'Welcome to mixmatch');
    await page.getByText(/^MixMatch with as many of the labels as “labelled” says; everything else/).waitFor();
    await leads(page, 'Label images');
  });

  step('and where something is', async ({ page, open }) => {
    await open('#/datasets', 'Data sets');
    assert.equal(await page.getByRole('link', { name: 'Label images', exact: true }).count(), 0, 'the words below say it');
    await importSet(page, { name: 'faces', task: 'mask', set: drawnSet({ training: 6, test: 4 }) });
    await title(page, 'faces').waitFor();
    // All labels that there are are learned from.
    const command = await page.getByText(/"dataset":"faces"/).innerText();
    assert.match(command, /'\{"dataset":"faces","algorithm":"mixmatch","seed":1\}'/);
    await leads(page, 'Label more');
    await goTo(page, 'Data sets');
    await leads(page, 'Label images');
    await goTo(page, 'Overview');
    await leads(page, 'Label images');
  });
});
