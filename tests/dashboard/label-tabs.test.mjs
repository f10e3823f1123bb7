// The page that labels, where labels could get lost: two tabs, a browser that keeps nothing, an import under way.

import assert from 'node:assert/strict';

import { blob, zip } from './drawn.mjs';
import { button, field } from './parts.mjs';
import { walk } from './walk.mjs';

/// Of 12 images; of another `seed`, of other ones.
const archive = (name, seed = 1) => ({ name, mimeType: 'application/zip', buffer: zip(Array.from({ length: 12 }, (_, at) => [`${at}.png`, blob(at % 2, at + seed)])) });
const PHOTOS = archive('photos.zip');

const choose = (page, file = PHOTOS) => page.getByLabel(/^Choose a ZIP of images/).setInputFiles(file);
const goesOn = (page, labels) => page.getByText(`Labelling goes on where it was: ${labels} labels were there.`).waitFor();
const labelled = (page, labels) => page.getByText(new RegExp(`^${labels} of 10 for training`)).waitFor();

async function begin(page) {
  await choose(page);
  await field(page, 'Classes').fill('red, blue');
  await field(page, 'Task').fill('colour');
  await field(page, 'Labels for training').fill('10');
  await field(page, 'For the test sheet').selectOption('0');
  await button(page, 'Start labelling').click();
  await labelled(page, 0);
}

/// Labels the next images by these keys, one for each when it is shown; `before` have labels.
async function press(page, keys, before) {
  for (const [at, key] of [...keys].entries()) {
    await page.locator('.label-frame:not([aria-busy]) img').waitFor();
    await page.keyboard.press(key);
    await labelled(page, before + at + 1);
  }
}

walk('labels that could get lost', {}, (step) => {
  step('of two tabs one rests while the other labels, and takes its labels over', async ({ base, page, open }) => {
    await open('#/label', 'Label images');
    await begin(page);
    await press(page, '12', 0);
    const other = await page.context().newPage();
    await other.goto(`${base}/#/label`);
    await choose(other);
    await goesOn(other, 2);

    await press(page, '11', 2);
    await other.getByText(/^This archive is being labelled in another tab too/).waitFor();
    await other.keyboard.press('1');
    await press(page, '2', 4);
    await button(other, 'Go on here').click();
    await goesOn(other, 5);
    await press(other, '2', 5);
    await button(page, 'Go on here').click();
    await goesOn(page, 6);

    // On another page of the dashboard too.
    await page.goto(`${base}/#/datasets`);
    await page.getByRole('heading', { level: 1, name: 'Data sets' }).waitFor();
    await press(other, '1', 6);
    await page.goto(`${base}/#/label`);
    await goesOn(page, 7);
  });

  step('where the browser keeps nothing, an archive that is chosen again has its labels still', async ({ page, open }) => {
    await page.addInitScript(() => {
      Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
    });
    await open('#/label', 'Label images');
    await begin(page);
    await press(page, '121', 0);
    await page.getByText(/^This browser does not keep the labels: /).waitFor();
    await button(page, 'Another ZIP').click();
    await page.getByText(/^This browser does not keep the labels so far/).waitFor();
    await choose(page, archive('renamed.zip'));
    await goesOn(page, 3);
    await page.getByText(/^This browser does not keep the labels: /).waitFor();
    await button(page, 'Another ZIP').click();
    await choose(page, archive('others.zip', 50));
    await button(page, 'Start labelling').waitFor();
  });

  step('while an import is under way, labelling on does not offer another one', async ({ page, open, expects }) => {
    expects(409, '/datasets');
    await open('#/label', 'Label images');
    await begin(page);
    await press(page, '12', 0);
    let answer;
    await page.route('**/datasets', (route) => {
      answer = () => route.fulfill({ status: 409, contentType: 'application/problem+json', json: { title: 'Conflict', status: 409, detail: 'It exists.' } });
    });
    const sent = page.waitForRequest('**/datasets');
    await button(page, 'Import as a data set').click();
    await sent;
    await press(page, '2', 2);
    assert.equal(await button(page, 'Import as a data set').isDisabled(), true);
    answer();
    await page.getByText('It exists.').waitFor();
    assert.equal(await button(page, 'Import as a data set').isDisabled(), false);
  });
});
