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

  step('a double click asks, and confirms nothing', async ({ page, open }) => {
    await models(page);
    await open('#/models', 'Models');
    const sent = [];
    page.on('request', (request) => request.method() === 'DELETE' && sent.push(request.url()));
    await button(page, 'Delete version 2 of mask').click();
    const armed = button(page, 'Delete for good? version 2 of mask');
    await armed.evaluate((node) => node.dispatchEvent(new MouseEvent('click', { bubbles: true, detail: 2 })));
    await armed.click();
    await heard(page, 'Deleted: version 2 of mask');
    assert.equal(sent.length, 1);
  });

  step('Enter that is held down asks, and confirms nothing', async ({ page, open }) => {
    await models(page);
    await open('#/models', 'Models');
    const sent = [];
    page.on('request', (request) => request.method() === 'DELETE' && sent.push(request.url()));
    await button(page, 'Delete version 2 of mask').focus();
    for (let times = 0; times < 4; times += 1) await page.keyboard.down('Enter');
    await page.keyboard.up('Enter');
    await button(page, 'Delete for good? version 2 of mask').waitFor();
    assert.deepEqual(sent, []);
    await page.keyboard.press('Enter');
    await heard(page, 'Deleted: version 2 of mask');
    assert.equal(sent.length, 1);
  });

  step('of very many classes the overview’s table names a few', async ({ page, open }) => {
    await models(page, Array.from({ length: 30 }, (_, at) => `c${at}`));
    await open('', /./);
    await page.getByRole('cell', { name: 'c0, c1, c2, c3, c4, c5, c6, c7 and 22 more classes', exact: true }).waitFor();
  });

  step('figures of different test images are said to be that', async ({ page, open }) => {
    const tested = (number, images) => ({ ...version(number, ['mask', 'no_mask']), metrics: { test: { accuracy: 0.9, accuracy_interval: [0.8, 0.95], images } } });
    const versions = [tested(2, 80), tested(1, 120)];
    await page.route('**/models?*', (route) => route.fulfill({ json: { items: [{ name: 'mask', aliases: { champion: 1 }, versions }], next_cursor: null } }));
    await open('#/models', 'Models');
    await page.getByText(/tested on different images \(80, 120 of them\)/).waitFor();
    await page.getByText('80.0–95.0\u202f%', { exact: true }).first().waitFor();
    versions[1].metrics.test.images = 80;
    await page.reload();
    await page.getByText('80 images', { exact: true }).nth(1).waitFor();
    assert.equal(await page.getByText(/tested on different images/).count(), 0);
  });

  step('the classes are those of the version that answers, and others are said to have others', async ({ page, open }) => {
    const versions = [version(3, ['cat', 'dog', 'fox']), version(2, ['cat', 'dog']), version(1, ['cat', 'dog'])];
    const model = { name: 'pet', aliases: { champion: 2 }, versions };
    await page.route('**/models?*', (route) => route.fulfill({ json: { items: [model], next_cursor: null } }));
    await open('#/models', 'Models');
    await page.getByText('Classes: cat, dog', { exact: true }).waitFor();
    await page.getByText(/^Not all versions have these classes: version 3 \(cat, dog, fox\)\. /).waitFor();
    versions.shift();
    await page.reload();
    await page.getByText('Classes: cat, dog', { exact: true }).waitFor();
    assert.equal(await page.getByText(/^Not all versions/).count(), 0);
  });

  step('versions are compared on the same test images', async ({ page, open, expects }) => {
    await models(page);
    const set = { id: 'later-id', name: 'later', task: 'mask', classes: ['mask', 'no_mask'], counts: { train: { mask: 9, no_mask: 9 }, test: { mask: 40, no_mask: 40 }, unlabelled: 0 } };
    await page.route('**/datasets?*', (route) => route.fulfill({ json: { items: [set, { ...set, id: 'x', name: 'untested', counts: { ...set.counts, test: { mask: 0, no_mask: 0 } } }], next_cursor: null } }));
    const test = (accuracy) => ({ accuracy, accuracy_interval: [accuracy - 0.1, accuracy + 0.05], images: 80, f1_macro: accuracy });
    await page.route('**/models/mask/versions/*/test?dataset=later-id', (route) => (route.request().url().includes('/2/')
      ? route.fulfill({ json: { seen_in_training: 0, test: test(0.9) } })
      : route.fulfill({ json: { seen_in_training: 30, test: test(0.8) } })));
    await open('#/models', 'Models');
    const fold = page.getByText('Compare the versions on the same test images');
    await page.route('**/datasets?*', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Unavailable', status: 503, detail: 'not now', errors: [] }) }), { times: 1 });
    expects(503, '/datasets');
    await fold.click();
    await page.getByText('not now').waitFor();
    // Closed and opened again it is asked for anew.
    await fold.click();
    await fold.click();
    await page.getByLabel('Test images of').waitFor();
    assert.deepEqual(await page.getByLabel('Test images of').locator('option').allTextContents(), ['later (80 images)']);
    await button(page, 'Test these versions of mask').click();
    const rows = page.getByRole('table', { name: 'Versions of mask on the same test images' }).locator('tbody tr');
    await until('both are tested', async () => (await rows.nth(1).textContent()).includes('80.0'));
    assert.match(await rows.nth(0).textContent(), /version 2.*90\.0.*none/);
    assert.match(await rows.nth(1).textContent(), /version 1.*champion.*80\.0.*30/);

    // One that cannot be asked does not hide the other.
    await page.route('**/models/mask/versions/2/test?*', (route) => route.fulfill({ status: 422, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Unprocessable', status: 422, detail: 'of a class that it does not know', errors: [] }) }));
    expects(422, '/models/mask/versions/2/test');
    await button(page, 'Test these versions of mask').click();
    await page.getByText('of a class that it does not know').waitFor();
    await until('the other is tested', async () => (await rows.nth(1).textContent()).includes('80.0'));
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
    await page.route('**/datasets/blobs', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), task: 't'.repeat(64) } });
    });
    await open('#/datasets/blobs', 'blobs');
    await page.getByText(/^Task t{64} · /).waitFor();
    assert.deepEqual(await page.evaluate(tooWide), []);
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

  step('the jobs that are marked are deleted together, but for those that are not over', async ({ page, open, expects }) => {
    await open('#/datasets/blobs', 'blobs');
    const jobs = new URL('/jobs', page.url()).href;
    const made = async (verb) => {
      const { id } = await (await page.request.post(jobs, { data: { dataset: 'blobs', preset: 'quick', labelled: 4, epochs: 1, steps_per_epoch: 1 } })).json();
      await page.request.post(`${jobs}/${id}/${verb}`);
      await until('it rests', async () => ['canceled', 'paused', 'succeeded'].includes((await (await page.request.get(`${jobs}/${id}`)).json()).state));
      return id;
    };
    const [first, second, paused] = [await made('cancel'), await made('cancel'), await made('pause')];
    const state = (await (await page.request.get(`${jobs}/${paused}`)).json()).state;
    assert.equal(state, 'paused');
    expects(409, `/jobs/${paused}`);
    await open('#/jobs', 'Jobs');
    const mark = (id) => page.getByRole('checkbox', { name: `Compare MixMatch ${id.slice(-6)}` });
    assert.equal(await page.getByRole('button', { name: /^Delete/ }).count(), 0);
    for (const id of [first, second, paused]) await mark(id).check();
    // What is marked and not listed here stays.
    await page.getByRole('link', { name: 'paused', exact: true }).click();
    await mark(first).waitFor({ state: 'detached' });
    await button(page, 'Delete 1').waitFor();
    await page.getByText('2 more marked in other lists stay').waitFor();
    await page.getByRole('link', { name: 'running', exact: true }).click();
    await mark(paused).waitFor({ state: 'detached' });
    assert.equal(await page.getByRole('button', { name: /^Delete/ }).count(), 0);
    await page.getByRole('link', { name: 'all', exact: true }).click();
    await mark(first).waitFor();
    await button(page, 'Delete 3').click();
    await heard(page, 'Delete 3 jobs for good?');
    assert.equal(await mark(first).count(), 1, 'the first click only asks');
    await button(page, 'Delete 3 jobs for good?').click();
    await page.getByRole('alert').getByText('2 of 3 jobs deleted').waitFor();
    await page.getByRole('alert').getByText(new RegExp(`^MixMatch ${paused.slice(-6)}: .+`)).waitFor();
    assert.deepEqual([await mark(first).count(), await mark(second).count(), await mark(paused).count()], [0, 0, 1]);
    assert.equal(await mark(paused).isChecked(), true);
    await page.request.post(`${jobs}/${paused}/cancel`);
    await button(page, 'Delete 1').click();
    await button(page, 'Delete 1 job for good?').click();
    await mark(paused).waitFor({ state: 'detached' });
    assert.equal(await page.getByRole('alert').count(), 0);
    assert.equal(await page.getByRole('button', { name: /^Delete/ }).count(), 0);
  });
});
