// A job's page over a long time: looked away from, retried from elsewhere, with very many classes.

import assert from 'node:assert/strict';

import { drawnSet } from './drawn.mjs';
import { importSet, look, title } from './parts.mjs';
import { until, walk } from './walk.mjs';

const CLASSES = Array.from({ length: 200 }, (_, at) => `class-${at}`);
/// Of all classes these are answered far more often than one in 200.
const OFTEN = CLASSES.slice(-12);

const RUN = { dataset: 'blobs', preset: 'quick', labelled: 40, network: 'wrn-10-1', size: 16, precision: 'float32', epochs: 2000, steps_per_epoch: 6 };

walk('a job’s page over a long time', {}, (step) => {
  let server;
  let job;
  let sweep;
  const ask = async (page, path, data) => {
    const answer = await page.request.post(`${server}${path}`, data && { data });
    assert.ok(answer.ok(), `POST ${path}: ${await answer.text()}`);
    return answer.json().catch(() => null);
  };
  const state = async (page, id) => (await (await page.request.get(`${server}/jobs/${id}`)).json()).state;

  step('there are jobs', async ({ base, page, open }) => {
    server = base;
    await open('#/datasets', 'Data sets');
    await importSet(page, { name: 'blobs', task: 'blob', set: drawnSet() });
    await title(page, 'blobs').waitFor();
    job = (await ask(page, '/jobs', { ...RUN, seed: 1 })).id;
    await until('it has begun', async () => (await state(page, job)) === 'running');
    sweep = (await ask(page, '/jobs', { ...RUN, seed: [2, 3] })).id;
    await ask(page, `/jobs/${sweep}/cancel`);
  });

  step('it lets its stream go while nobody looks, and goes on when somebody does', async ({ page, open }) => {
    const asked = [];
    page.on('request', (request) => request.url().endsWith('/events') && asked.push(request));
    await open(`#/jobs/${job}`, 'MixMatch on blobs running');
    await page.getByText(/epoch \d+ of 2,000/).waitFor();
    const ended = page.waitForEvent('requestfailed', (request) => request === asked[0]);
    await look(page, false);
    await ended;
    await ask(page, `/jobs/${job}/pause`);
    await until('it pauses', async () => (await state(page, job)) === 'paused');
    assert.equal(asked.length, 1);
    await look(page, true);
    await title(page, 'MixMatch on blobs paused').waitFor();
    await until('the stream is asked for again', () => asked.length === 2);
    assert.match((await asked[1].allHeaders())['last-event-id'], /^\d+$/);
    assert.equal(await page.getByText('The connection was lost').count(), 0);
  });

  step('one that was over and is retried from elsewhere is followed again', async ({ page, open }) => {
    await ask(page, `/jobs/${job}/cancel`);
    await open(`#/jobs/${job}`, 'MixMatch on blobs canceled');
    await look(page, false);
    await ask(page, `/jobs/${job}/retry`);
    await look(page, true);
    await title(page, /^MixMatch on blobs (queued|running)$/).waitFor();
    await page.getByText(/epoch \d+ of 2,000/).waitFor();
    await ask(page, `/jobs/${job}/pause`);
    await title(page, 'MixMatch on blobs paused').waitFor();
  });

  step('and a sweep of which one is, also where nobody has looked away', async ({ page, open }) => {
    await page.clock.install();
    await open(`#/jobs/${sweep}`, 'Sweep on blobs canceled');
    await ask(page, `/jobs/${sweep}/retry`);
    await page.clock.fastForward(31_000);
    await title(page, /^Sweep on blobs (queued|running)$/).waitFor();
    await ask(page, `/jobs/${sweep}/cancel`);
  });

  step('a page that could not be shown while the server was away is shown when it is back', async ({ page, open, expects }) => {
    await page.clock.install();
    await open('#/jobs', 'Jobs');
    for (const path of ['/models', '/livez']) expects('ERR_CONNECTION_REFUSED', path);
    let away = true;
    let asked = 0;
    for (const path of ['**/models?*', '**/livez']) {
      await page.route(path, (route) => {
        asked += path === '**/livez';
        return away ? route.abort('connectionrefused') : route.continue();
      });
    }
    await page.getByRole('link', { name: 'Models', exact: true }).click();
    await title(page, 'This could not be shown').waitFor();
    await page.locator('#offline').waitFor();
    await page.clock.runFor(3100);
    await until('it is asked for', () => asked === 1);
    await title(page, 'This could not be shown').waitFor();
    away = false;
    await page.clock.runFor(3100);
    await title(page, 'Models').waitFor();
    await page.locator('#offline').waitFor({ state: 'hidden' });
    const before = asked;
    await page.clock.runFor(10_000);
    assert.equal(asked, before, 'an answer ends the questions');
  });

  step('of very many classes a chart draws those that stand out, and its legend stays short', async ({ page, open }) => {
    const shares = (epoch) => CLASSES.map((name) => (OFTEN.includes(name) ? 0.05 * epoch / 2 : 0.4 / 188));
    const epoch = (at) => ({ epoch: at, step: at, validation_accuracy: 0.5, validation_loss: 1, loss: 1, guess_classes: shares(at), validation_classes: shares(at) });
    await page.route(`**/jobs/${job}`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), state: 'succeeded' } });
    });
    await page.route('**/datasets/*', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), classes: CLASSES } });
    });
    await page.route('**/metrics?*', (route) => route.fulfill({ contentType: 'application/x-ndjson', body: [1, 2].map((at) => `${JSON.stringify(epoch(at))}\n`).join('') }));
    await open(`#/jobs/${job}`, 'MixMatch on blobs succeeded');
    const chart = page.getByRole('figure').filter({ hasText: 'Answers on validation' });
    await chart.getByText('188 more are left out').waitFor();
    const drawn = await chart.getByRole('button').evaluateAll((buttons) => buttons.map((one) => one.children[1].textContent));
    assert.deepEqual(drawn, OFTEN.map((name) => `share ${name}`));
    const height = await chart.locator('.legend').evaluate((legend) => legend.offsetHeight);
    assert.ok(height <= 160, `the legend is ${height} pixels high`);
  });
});
