// An upload under way: whoever leaves is asked, whoever wants to ends it, and a file that has changed is told of.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { blob, csv, drawnSet, zip } from './drawn.mjs';
import { button, change, complaint, field, focused, goTo, importSet, title } from './parts.mjs';
import { until, walk } from './walk.mjs';

const SET = { name: 'sent', task: 'blob', set: drawnSet({ training: 6, test: 2 }) };
const PHOTOS = { name: 'photos.zip', mimeType: 'application/zip', buffer: zip(Array.from({ length: 12 }, (_, at) => [`${at}.png`, blob(at % 2, at + 1)])) };
const GIVEN_UP = 'The upload was given up';

/// Holds back the answer to an upload; gives what lets it go.
async function held(page) {
  let answer;
  await page.route('**/datasets', (route) => (route.request().method() === 'POST' ? new Promise((done) => { answer = () => done(route.continue()); }) : route.continue()));
  return () => answer();
}

/// The next upload as soon as it is under way.
const sending = (page) => page.waitForRequest((request) => request.method() === 'POST' && request.url().endsWith('/datasets'));
const ended = (page) => page.waitForEvent('requestfailed', (request) => request.url().endsWith('/datasets'));
const asksBeforeUnload = (page) => page.evaluate(() => !dispatchEvent(new Event('beforeunload', { cancelable: true })));

walk('an upload under way', {}, (step) => {
  const question = (page) => page.getByRole('dialog', { name: 'An upload is under way' });

  step('is ended by its button', async ({ page, open }) => {
    await held(page);
    await open('#/datasets', 'Data sets');
    assert.equal(await asksBeforeUnload(page), false);
    const sent = sending(page);
    await importSet(page, SET);
    await sent;
    assert.equal(await asksBeforeUnload(page), true);
    const end = ended(page);
    await button(page, 'Cancel the upload').press('Enter');
    await end;
    await page.getByRole('main').getByText(GIVEN_UP).waitFor();
    assert.equal(await button(page, 'Cancel the upload').count(), 0);
    assert.equal(await focused(page), 'Import');
    assert.equal(await asksBeforeUnload(page), false);
    assert.equal(await field(page, 'Name').inputValue(), SET.name);
  });

  step('asks for the key where the server wants one, and goes again', async ({ page, open, expects }) => {
    expects(401, '/datasets');
    const body = JSON.stringify({ title: 'Unauthorized', status: 401, detail: 'a key is needed', errors: [] });
    let sent = 0;
    await page.route('**/datasets', (route) => {
      if (route.request().method() !== 'POST') return route.continue();
      sent += 1;
      // The second is held back.
      return sent === 1 ? route.fulfill({ status: 401, contentType: 'application/problem+json', body }) : undefined;
    });
    await open('#/datasets', 'Data sets');
    await importSet(page, SET);
    await field(page, 'Key').fill('mm_a-key-of-the-dashboard-tests');
    const again = sending(page);
    await button(page, 'Use this key').click();
    await again;
    await button(page, 'Cancel the upload').click();
    await page.getByRole('main').getByText(GIVEN_UP).waitFor();
  });

  step('is not ended by a link or by going back unless somebody says so, and then not without a word', async ({ page, open }) => {
    const letGo = await held(page);
    await open('#/jobs', 'Jobs');
    await goTo(page, 'Data sets');
    const [first, jobs] = [sending(page), page.getByRole('link', { name: 'Jobs', exact: true })];
    await importSet(page, SET);
    await first;
    await jobs.click();
    await question(page).getByRole('button', { name: 'Stay here' }).click();
    await title(page, 'Data sets').waitFor();
    await jobs.click();
    const left = ended(page);
    await question(page).getByRole('button', { name: 'Leave' }).click();
    await left;
    await title(page, 'Jobs').waitFor();
    await page.locator('#announce').getByText(GIVEN_UP).waitFor({ state: 'attached' });
    await page.getByText(`${GIVEN_UP}.`, { exact: true }).waitFor();
    assert.equal(await question(page).count(), 0);

    await goTo(page, 'Data sets');
    assert.equal(await page.getByText(`${GIVEN_UP}.`, { exact: true }).count(), 0, 'as long as the page that was gone to');
    const second = sending(page);
    await importSet(page, SET);
    await second;
    await page.locator('#announce').evaluate((region) => region.replaceChildren());
    const cancel = button(page, 'Cancel the upload');
    for (const answer of [() => question(page).getByRole('button', { name: 'Stay here' }).click(), () => page.keyboard.press('Escape')]) {
      await page.goBack();
      await question(page).waitFor();
      await answer();
      await until('the address is the page’s again', () => page.url().endsWith('#/datasets'));
      await cancel.waitFor();
      await until('the page has the focus', async () => (await focused(page)) === 'the page');
    }
    for (const answer of [() => page.keyboard.press('Escape'), () => page.goForward()]) {
      await cancel.focus();
      await page.goBack();
      await question(page).waitFor();
      await answer();
      await question(page).waitFor({ state: 'detached' });
      await until('what had the focus has it', async () => (await focused(page)) === 'Cancel the upload');
      await until('the address is the page’s again', () => page.url().endsWith('#/datasets'));
    }
    assert.equal(await page.locator('#announce').textContent(), '');
    await page.goBack();
    const gone = ended(page);
    await question(page).getByRole('button', { name: 'Leave' }).click();
    await gone;
    await title(page, 'Jobs').waitFor();
    await page.getByText(`${GIVEN_UP}.`, { exact: true }).waitFor();

    // A question that nobody has answered goes with the upload.
    await page.goForward();
    await title(page, 'Data sets').waitFor();
    const third = sending(page);
    await importSet(page, SET);
    await third;
    await jobs.click();
    await question(page).waitFor();
    letGo();
    await title(page, SET.name).waitFor();
    assert.equal(await question(page).count(), 0);

    // So does one about going back.
    await goTo(page, 'Data sets');
    const fourth = sending(page);
    await importSet(page, { ...SET, name: 'sent-too' });
    await fourth;
    await page.goBack();
    await question(page).waitFor();
    letGo();
    await title(page, 'sent-too').waitFor();
    assert.equal(await question(page).count(), 0);
    await page.goBack();
    await title(page, 'Data sets').waitFor();
  });

  step('goes on while the settings of the labels are looked at', async ({ page, open }) => {
    const letGo = await held(page);
    await open('#/label', 'Label images');
    await page.getByLabel(/^Choose a ZIP of images/).setInputFiles(PHOTOS);
    await field(page, 'Classes').fill('red, blue');
    await field(page, 'Task').fill('colour');
    await button(page, 'Start labelling').click();
    for (const key of '1212') {
      await page.locator('.label-frame:not([aria-busy]) img').waitFor();
      await page.keyboard.press(key);
    }
    const sent = sending(page);
    await button(page, 'Import as a data set').click();
    await sent;
    await button(page, 'Settings').click();
    await field(page, 'Task').fill('hue');
    await button(page, 'Go on labelling').click();
    await button(page, 'Cancel the upload').waitFor();
    assert.equal(await button(page, 'Import as a data set').isDisabled(), true);
    assert.equal(await field(page, 'Task').inputValue(), 'hue');
    await button(page, 'Another ZIP').click();
    await page.getByText(/^An import is under way: with another archive/).waitFor();
    letGo();
    await title(page, 'photos').waitFor();
  });

  step('a sheet that was changed since it was refused is named as that', async ({ page, open, expects }) => {
    expects(422, '/datasets');
    expects('ERR_UPLOAD_FILE_CHANGED', '/datasets');
    const place = await mkdtemp(join(tmpdir(), 'mixmatch-upload-'));
    const train = join(place, 'train.csv');
    await writeFile(train, csv([['image', 'label'], ['not-there.png', 'red']]));
    await open('#/datasets', 'Data sets');
    await importSet(page, { ...SET, name: 'changed', set: { ...SET.set, train } });
    await page.getByRole('alert').getByText(/not-there/).first().waitFor();
    await change(train, SET.set.train.buffer);
    await button(page, 'Import').click();
    assert.equal(await complaint(page, 'Training sheet'), 'This file was changed since it was chosen: choose it again');
    assert.equal(await page.getByRole('alert').filter({ hasText: /./ }).count(), 0);
    await field(page, 'Training sheet').setInputFiles(train);
    await button(page, 'Import').click();
    await title(page, 'changed').waitFor();
    await rm(place, { recursive: true });
  });
});
