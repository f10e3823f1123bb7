// A server that wants a key: the dashboard asks for it, says when it is wrong, and forgets it with its tab.

import assert from 'node:assert/strict';

import { blob, zip } from './drawn.mjs';
import { button, field, goTo, title } from './parts.mjs';
import { until, walk } from './walk.mjs';

const KEY = 'the-key-of-the-dashboard-tests';

/// What the overview and the pages behind it ask for.
const ASKED = ['/jobs', '/models', '/datasets'];

walk('a server with a key', { MIXMATCH_API_KEY: KEY }, (step) => {
  const dialogue = (page) => page.getByRole('dialog', { name: 'API key' });

  async function give(page, key) {
    await field(page, 'Key').fill(key);
    await button(page, 'Use this key').click();
  }

  const change = async (page, key) => {
    await page.getByRole('button', { name: 'Change the API key; one is set' }).click();
    await give(page, key);
  };

  /// What a server answers a key that may not import.
  const refused = {
    status: 403,
    contentType: 'application/problem+json',
    json: { title: 'The key\u2019s scope is too small', status: 403, detail: 'this needs a key of scope train; phone (abc) has scope predict', errors: [] },
  };
  const notImported = (page) => page.getByText(/^This server would not import the labels: this needs a key of scope train/);

  /// The page that labels, with four images to label.
  async function startLabelling(base, page) {
    await page.goto(`${base}/#/label`);
    const images = zip(Array.from({ length: 4 }, (_, at) => [`${at}.png`, blob(at % 2, at + 1)]));
    await page.getByLabel(/^Choose a ZIP of images/).setInputFiles({ name: 'photos.zip', mimeType: 'application/zip', buffer: images });
    await field(page, 'Classes').fill('red, blue');
    await field(page, 'Task').fill('colour');
    await field(page, 'Labels for training').fill('4');
    await button(page, 'Start labelling').click();
  }

  step('the dialogue asks, tells of a wrong key, and takes the right one for this tab', async ({ base, page, expects }) => {
    ASKED.forEach((path) => expects(401, path));
    await page.goto(base);
    await dialogue(page).getByText('This server wants a key.').waitFor();
    await give(page, 'not-the-key-of-the-dashboard-tests');
    await dialogue(page).getByText(/^This server does not take the key/).waitFor();
    await give(page, KEY);
    await title(page, 'Welcome to mixmatch').waitFor();
    assert.equal(await dialogue(page).count(), 0);
    await page.getByRole('button', { name: 'Change the API key; one is set' }).waitFor();

    await page.reload();
    await title(page, 'Welcome to mixmatch').waitFor();
    assert.equal(await dialogue(page).count(), 0);
  });

  step('what a key cannot have in it is told at the field, and what copying left around it is no part of it', async ({ base, page, expects }) => {
    ASKED.forEach((path) => expects(401, path));
    await page.goto(base);
    await give(page, 'mm_cut-short…');
    await dialogue(page).getByText('No key has “…” in it').waitFor();
    assert.equal(await page.locator('#offline').isVisible(), false, 'the server is well');
    await give(page, `\u200b ${KEY}\u200b\n`);
    await title(page, 'Welcome to mixmatch').waitFor();
  });

  step('whoever cancels is told so, and may set the key later', async ({ base, page, expects }) => {
    ASKED.forEach((path) => expects(401, path));
    await page.goto(`${base}/#/datasets`);
    await dialogue(page).waitFor();
    await dialogue(page).press('Escape');
    await title(page, 'This could not be shown').waitFor();
    await page.getByRole('status').getByText('The server wants a key').waitFor();
    await page.getByRole('button', { name: 'Set an API key' }).click();
    await give(page, KEY);
    await title(page, 'Data sets').waitFor();
    await page.getByRole('status').getByText('The server wants a key').waitFor({ state: 'hidden' });
    await goTo(page, 'Models');
  });

  step('whoever has no key is told how one is made', async ({ base, page, expects }) => {
    ASKED.forEach((path) => expects(401, path));
    await page.goto(base);
    await dialogue(page).getByText('mixmatch keys create --scope admin --name dashboard').waitFor();
    await give(page, KEY);
    await title(page, 'Welcome to mixmatch').waitFor();
    await page.getByRole('button', { name: 'Change the API key; one is set' }).click();
    await dialogue(page).getByText(/^Needed where the server has keys/).waitFor();
    await dialogue(page).press('Escape');
  });

  step('a key for predictions alone leads to them', async ({ base, page, expects }) => {
    ASKED.forEach((path) => expects(401, path));
    for (const path of ['/jobs', '/datasets']) {
      expects(403, path);
      const detail = 'this needs a key of scope train; phone (abc) has scope predict';
      await page.route(`**${path}?*`, (route) => ('authorization' in route.request().headers()
        ? route.fulfill({ status: 403, contentType: 'application/problem+json', json: { title: 'The key\u2019s scope is too small', status: 403, detail, errors: [] } }) : route.continue()));
    }
    await page.goto(base);
    await give(page, KEY);
    await title(page, 'Predict').waitFor();
    assert.equal(new URL(page.url()).hash, '#/predict');
    await page.getByRole('link', { name: 'Jobs', exact: true }).click();
    await title(page, 'This could not be shown').waitFor();
    await page.getByText(/^This key is for predictions/).getByRole('link', { name: 'Predict' }).click();
    await title(page, 'Predict').waitFor();
  });

  step('what a key was refused is asked for again with another one, on a page that is there', async ({ base, page, expects }) => {
    const SMALL = 'a-key-for-predictions';
    for (const path of ['/datasets', '/jobs/one/events']) [401, 403].forEach((status) => expects(status, path));
    const needs = (address, answer) => page.route(address, (route) => {
      const { authorization } = route.request().headers();
      return authorization === `Bearer ${SMALL}` ? route.fulfill(refused) : answer(route);
    });
    await needs('**/datasets?*', (route) => route.continue());

    await startLabelling(base, page);
    await give(page, SMALL);
    const notice = notImported(page);
    await notice.waitFor();
    await change(page, KEY);
    await notice.waitFor({ state: 'detached' });

    // A job that runs: what is told of it comes on.
    const config = { preset: 'quick', algorithm: 'mixmatch', seed: 1, labelled: 4 };
    const job = { id: 'one', kind: 'job', state: 'running', phase: 'training', algorithm: 'mixmatch', attempt: 1, epoch: 1, epochs: 9, step: 1, steps: 90, config, dataset: { id: 'none', name: 'photos' }, created_at: '2026-01-01T00:00:00Z' };
    expects(404, '/datasets/none');
    await page.route('**/jobs/one', (route) => route.fulfill({ json: job }));
    await page.route('**/jobs/one/logs?*', (route) => route.fulfill({ json: { items: [], next_cursor: null } }));
    let epoch = 5;
    await needs('**/jobs/one/events', (route) => route.fulfill({ contentType: 'text/event-stream', body: `event: step\ndata: {"epoch": ${epoch}, "step": 50, "images_per_second": 7, "eta_seconds": 3}\n\n` }));
    await page.goto(`${base}/#/jobs/one`);
    await page.getByText('epoch 5 of 9').waitFor();
    await change(page, SMALL);
    await page.getByRole('alert').getByText(/this needs a key of scope train/).waitFor();
    epoch = 6;
    await change(page, KEY);
    await page.getByText('epoch 6 of 9').waitFor();
    assert.equal(await page.getByText(/this needs a key of scope train/).count(), 0);
  });

  step('the names that are taken are asked for once after a key, and what an earlier key was answered counts no more', async ({ base, page, expects }) => {
    [401, 403].forEach((status) => expects(status, '/datasets'));
    const SMALL = 'a-key-for-predictions';
    const asked = [];
    let answer;
    const late = new Promise((resolve) => { answer = resolve; });
    await page.route('**/datasets?*', async (route) => {
      const { authorization } = route.request().headers();
      if (!authorization) return route.continue();
      asked.push(authorization.replace('Bearer ', ''));
      if (authorization === `Bearer ${SMALL}`) return route.fulfill(refused);
      await late;
      // Nobody may wait for it any more.
      return route.fulfill({ json: { items: [], next_cursor: null } }).catch(() => {});
    });
    await startLabelling(base, page);
    await give(page, KEY);
    await until('the names are asked for', () => asked.length > 0);
    await change(page, SMALL);
    const notice = notImported(page);
    await notice.waitFor();
    answer();
    // As long as a late answer takes to be read.
    await page.waitForTimeout(300);
    assert.equal(await notice.count(), 1);
    assert.deepEqual(asked, [KEY, SMALL]);
  });

  step('where the browser keeps nothing for sites, the key holds as long as the page', async ({ base, page, expects }) => {
    ASKED.forEach((path) => expects(401, path));
    await page.addInitScript(() => {
      Object.defineProperty(window, 'sessionStorage', { get: () => { throw new DOMException('blocked', 'SecurityError'); } });
    });
    await page.goto(base);
    await give(page, KEY);
    await title(page, 'Welcome to mixmatch').waitFor();
    await page.getByRole('button', { name: 'Change the API key; one is set' }).waitFor();
    await goTo(page, 'Models');
  });

  step('whoever sets the key while a form is filled in has it filled in still', async ({ base, page, expects }) => {
    expects(401, '/datasets');
    await page.goto(`${base}/#/datasets`);
    await give(page, KEY);
    await title(page, 'Data sets').waitFor();
    await field(page, 'Name').fill('half-written');
    await page.getByRole('button', { name: 'Change the API key; one is set' }).click();
    await give(page, KEY);
    await dialogue(page).waitFor({ state: 'detached' });
    // What a page is drawn anew from comes from the server.
    await page.waitForTimeout(500);
    assert.equal(await field(page, 'Name').inputValue(), 'half-written');
  });
});
