// What a button says of itself, and where the focus is when it has done its work. Models and their answers are stand-ins.

import assert from 'node:assert/strict';

import { drawnSet } from './drawn.mjs';
import { button, focused, importSet, title, tooWide } from './parts.mjs';
import { until, walk } from './walk.mjs';

const version = (number, classes) => ({ version: number, classes, metrics: {}, algorithm: 'mixmatch', labelled: 40, created_at: '2026-01-01T00:00:00Z', job_id: null });

/// Two versions of a model; which one is the champion, and which are there, follows what is sent.
async function models(page, classes = ['mask', 'no_mask']) {
  const model = { name: 'mask', aliases: { champion: 1 }, versions: [version(2, classes), version(1, classes)] };
  await page.route('**/models?*', (route) => route.fulfill({ json: { items: [model], next_cursor: null } }));
  await page.route('**/models/mask/**', (route) => {
    const request = route.request();
    if (request.method() === 'PUT') model.aliases.champion = request.postDataJSON().version;
    if (request.method() === 'DELETE') model.versions = model.versions.filter((one) => !request.url().endsWith(`/${one.version}`));
    return route.fulfill(request.method() === 'DELETE' ? { status: 204 } : { json: {} });
  });
}

const heard = (page, text) => page.locator('#announce').getByText(text, { exact: true }).waitFor({ state: 'attached' });

walk('buttons', {}, (step) => {
  step('those of versions say of which, also when they ask again', async ({ page, open }) => {
    await models(page);
    await open('#/models', 'Models');
    for (const name of ['Make champion version 2 of mask', 'Model card version 1 of mask', 'Weights version 2 of mask']) await button(page, name).waitFor();
    await button(page, 'Make champion version 2 of mask').press('Enter');
    await heard(page, 'The champion is version 2 of mask');
    assert.equal(await focused(page), 'the page');
    await button(page, 'Delete version 1 of mask').press('Enter');
    await button(page, 'Delete for good? version 1 of mask').waitFor();
    await heard(page, 'Delete for good? version 1 of mask');
    assert.equal(await focused(page), 'Delete for good? version 1 of mask');
    await page.keyboard.press('Enter');
    await heard(page, 'Deleted: version 1 of mask');
    assert.equal(await focused(page), 'the page');
    assert.equal(await page.getByRole('button', { name: /version 1 of mask$/ }).count(), 0);
  });

  step('one that has done its work and is still there has the focus', async ({ page, open, expects }) => {
    await open('#/datasets', 'Data sets');
    await importSet(page, { name: 'blobs', task: 'blob', set: drawnSet({ training: 6, test: 2 }) });
    await title(page, 'blobs').waitFor();
    const picture = page.getByRole('img', { name: 'Samples of this data set' });
    const before = await picture.getAttribute('src');
    await page.getByRole('button', { name: 'Draw' }).first().press('Enter');
    await until('another sheet is drawn', async () => (await picture.getAttribute('src')) !== before);
    assert.equal(await focused(page), 'Draw');

    await models(page);
    await open('#/models', 'Models');
    await page.unroute('**/models/mask/**');
    expects(404, '/models/mask/versions/2/card');
    await button(page, 'Model card version 2 of mask').press('Enter');
    await page.getByRole('alert').waitFor();
    assert.equal(await focused(page), 'Model card version 2 of mask');
  });

  step('names of classes without a space fit on 360 pixels', async ({ page, open }) => {
    await models(page, ['a'.repeat(120), 'b'.repeat(120)]);
    await open('#/models', 'Models');
    assert.deepEqual(await page.evaluate(tooWide), []);
    // A chart's legend.
    const classes = ['c'.repeat(120), 'd'.repeat(120)];
    await open('#/datasets/blobs', 'blobs');
    const jobs = new URL('/jobs', page.url()).href;
    const job = await (await page.request.post(jobs, { data: { dataset: 'blobs', preset: 'quick', labelled: 4, epochs: 1, steps_per_epoch: 1 } })).json();
    await page.request.post(`${jobs}/${job.id}/cancel`);
    await until('it is over', async () => ['canceled', 'succeeded'].includes((await (await page.request.get(`${jobs}/${job.id}`)).json()).state));
    const epoch = { epoch: 1, step: 1, validation_accuracy: 0.5, validation_loss: 1, loss: 1, guess_classes: [0.5, 0.5] };
    await page.route('**/datasets/*', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), classes } });
    });
    await page.route('**/metrics?*', (route) => route.fulfill({ contentType: 'application/x-ndjson', body: `${JSON.stringify(epoch)}\n` }));
    await open(`#/jobs/${job.id}`, /^MixMatch on blobs/);
    await page.getByRole('button', { name: `share ${classes[0]}` }).waitFor();
    assert.deepEqual(await page.evaluate(tooWide), []);
  }, { viewport: { width: 360, height: 740 } });

  step('a pretrained supervised run takes no baseline’s place, and a seed that a browser rounds is queued by hand', async ({ page, open }) => {
    await open('#/datasets/blobs', 'blobs');
    const jobs = new URL('/jobs', page.url()).href;
    // As text: JSON.stringify would round the seed.
    const send = async (more) => {
      const data = `{"dataset": "blobs", "labelled": 4, "epochs": 1, "steps_per_epoch": 1, "pretrain_epochs": 2, ${more}}`;
      const sent = await page.request.post(jobs, { headers: { 'content-type': 'application/json' }, data });
      assert.equal(sent.status(), 202);
      const { id } = await sent.json();
      await page.request.post(`${jobs}/${id}/pause`);
      return id;
    };
    await send('"algorithm": "supervised"');
    await open(`#/jobs/${await send('"seed": 0')}`, /^MixMatch on blobs/);
    await button(page, 'Train the supervised baseline on the same labels').waitFor();
    await open(`#/jobs/${await send('"seed": 9007199254740993')}`, /^MixMatch on blobs/);
    await page.getByText('"pretrain_epochs": 0', { exact: true }).waitFor();
    assert.equal(await button(page, 'Train the supervised baseline on the same labels').count(), 0);
  });
});
