// The whole way through the dashboard, from an empty server to a prediction.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { blob, csv, drawnSet } from './drawn.mjs';
import { SHORT_RUN, SMALL_STEPS, button, cells, complaint, field, fillJob, goTo, importSet, rows, table, title, tooWide } from './parts.mjs';
import { until, walk } from './walk.mjs';

const MISSING = ['not-there.png', 'red', 'camera'];

walk('the dashboard', {}, (step) => {
  /// The job and the sweep that later steps look at.
  let job;
  let sweep;

  step('an empty server tells the three steps, and each page what it lacks', async ({ page, open }) => {
    await open('', 'Welcome to mixmatch');
    for (const name of ['Import a data set', 'Train', 'Predict']) await page.getByRole('heading', { level: 2, name, exact: true }).waitFor();
    await page.getByText(/^mixmatch \d+\.\d+/).waitFor();
    await goTo(page, 'Data sets');
    await page.getByText('None yet. Import one below').waitFor();
    await goTo(page, 'Jobs');
    await page.getByText('No such job.').waitFor();
    await goTo(page, 'Models');
    await page.getByText('None yet: a job that succeeds').waitFor();
    await goTo(page, 'Predict');
    await page.getByText('No model is published yet.').waitFor();
    await open('#/jobs/new', 'New job');
    await page.getByRole('link', { name: 'Import one' }).click();
    await title(page, 'Data sets').waitFor();
  });

  step('the import form says beside its field what is wrong, then imports and lists the row that was left out', async ({ page, open, expects }) => {
    expects(422, '/datasets');
    await open('#/datasets', 'Data sets');
    await importSet(page, { name: 'no name!', task: 'blob', set: drawnSet({ more: [MISSING] }) });
    assert.match(await complaint(page, 'Name'), /allowed are 1 to 64 letters/);
    await field(page, 'Name').fill('blobs');
    await button(page, 'Import').click();
    await title(page, 'blobs').waitFor();

    assert.deepEqual(await cells(page, 'Images per class and split'), [['blue', '40', '40'], ['red', '40', '40'], ['unlabelled', '40', '–']]);
    await page.getByRole('heading', { name: '1 row left out' }).waitFor();
    assert.deepEqual(await cells(page, 'Rows that were left out'), [['train', '122', 'not-there.png', 'the archive has no file "not-there.png"', 'missing_file']]);
  });

  step('of a sheet that is refused row by row, the problem stands in a box that stays short', async ({ page, open, expects }) => {
    expects(422, '/datasets');
    await open('#/datasets', 'Data sets');
    const bad = Array.from({ length: 1500 }, (_, at) => [`not-there-${at + 1}.png`, 'red', 'camera']);
    const train = { name: 'train.csv', mimeType: 'text/csv', buffer: csv([['image', 'label', 'source'], ...bad]) };
    await importSet(page, { name: 'of-elsewhere', task: 'blob', set: { ...drawnSet(), train } });
    const box = page.getByRole('alert');
    await box.getByText(/1500 of 1500 rows of the train sheet cannot be used.*the first 1000 of 1500 rows are listed/).waitFor();
    // The head is row 1.
    await box.getByText('train sheet, row 2: not-there-1.png: the archive has no file "not-there-1.png"', { exact: true }).waitFor();
    assert.equal(await box.getByRole('listitem').count(), 200);
    await box.getByText('and 800 more', { exact: true }).waitFor();
    assert.equal(await field(page, 'Training sheet').getAttribute('aria-invalid'), null, 'the field itself is right');
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    assert.ok(height < 4000, `the page is ${height} pixels high`);

    // What is wrong with the fields themselves stands beside them, and no more of it than people read.
    await page.route('**/datasets', (route) => route.fulfill({ status: 422, contentType: 'application/problem+json', json: {
      title: 'Invalid request', status: 422, detail: 'much is wrong',
      errors: Array.from({ length: 8 }, (_, at) => ({ pointer: '/task', code: 'wrong', detail: `reason ${at + 1}` })),
    } }));
    await button(page, 'Import').click();
    assert.equal(await complaint(page, 'Task'), 'reason 1; reason 2; reason 3; reason 4; reason 5; and 3 more');
    assert.equal(await box.count(), 0);
    await page.unroute('**/datasets');
  });

  step('a data set’s page draws its pictures', async ({ page, open }) => {
    await open('#/datasets/blobs', 'blobs');
    const drawn = async (name) => {
      const picture = page.getByRole('img', { name: `${name} of this data set` });
      await until(`the sheet ${name} is drawn`, () => picture.evaluate((image) => image.complete && image.naturalWidth > 100));
      return picture.getAttribute('src');
    };
    await drawn('Samples');
    const augmentations = page.getByRole('group').filter({ has: page.getByText('Augmentations', { exact: true }) });
    await augmentations.getByText('Augmentations', { exact: true }).click();
    const first = await drawn('Augmentations');
    await augmentations.getByLabel('K', { exact: true }).fill('2');
    await augmentations.getByRole('button', { name: 'Draw' }).click();
    await until('another sheet is drawn', async () => (await drawn('Augmentations')) !== first);
    const second = await drawn('Augmentations');
    const asked = page.waitForRequest(/augmentations\.png\?.*fit=face/);
    await augmentations.getByLabel('Pictures', { exact: true }).selectOption('face');
    await augmentations.getByRole('button', { name: 'Draw' }).click();
    await asked;
    await until('a third sheet is drawn', async () => (await drawn('Augmentations')) !== second);
    await page.getByText('Mixup', { exact: true }).click();
    await drawn('Mixup');
  });

  step('the form of a job says beside each field what is wrong, then queues it with its baseline', async ({ page, open, expects }) => {
    expects(422, '/jobs');
    await open('#/datasets/blobs', 'blobs');
    await page.getByRole('link', { name: 'Train on it' }).click();
    await title(page, 'New job').waitFor();
    await page.getByText('Of 80 labelled training images: 16 of them validate, to choose the best epoch, and at most 64 can be trained on.').waitFor();
    await fillJob(page, { 'More hyper-parameters': '{"validation": 0.3}' });
    await page.getByText('24 of them validate, to choose the best epoch, and at most 56 can be trained on.').waitFor();
    await fillJob(page, { Preset: 'quick', Labels: 'forty', 'More hyper-parameters': '{"epochs": 2' });
    await button(page, 'Queue the job').click();
    assert.match(await complaint(page, 'More hyper-parameters'), /^This is not JSON/);
    await fillJob(page, { 'More hyper-parameters': `{"epochs": 0, ${SMALL_STEPS}}` });
    await button(page, 'Queue the job').click();
    assert.match(await complaint(page, 'Labels'), /labelled/);
    await fillJob(page, { Labels: '40', 'More hyper-parameters': `{"epochs": 0, ${SMALL_STEPS}}` });
    await button(page, 'Queue the job').click();
    assert.match(await complaint(page, 'More hyper-parameters'), /epochs/);

    await fillJob(page, { Pictures: 'crop', 'More hyper-parameters': SHORT_RUN, 'Compare with the supervised baseline': true });
    await button(page, 'Queue the job').click();
    await title(page, 'MixMatch on blobs').waitFor();
    job = new URL(page.url()).hash;
    assert.match(job, /^#\/jobs\/[0-9a-f-]{36}$/);
    const { config } = await (await page.request.get(`${new URL(page.url()).origin}/${job.slice(2)}`)).json();
    assert.equal(config.fit, 'crop');
  });

  step('a job’s page follows it to its end without being loaded anew', async ({ page, open }) => {
    await open(job, /^MixMatch on blobs (queued|running|succeeded)$/);
    await page.evaluate(() => { window.stillThis = true; });
    await title(page, 'MixMatch on blobs succeeded').waitFor();
    await page.getByText('Published', { exact: true }).waitFor();
    for (const name of ['Accuracy', 'Loss', 'F1 on validation', 'Guessed labels']) {
      const chart = page.getByRole('img', { name: `${name} by epoch`, exact: true });
      await until(`the chart ${name} has lines`, () => chart.evaluate((svg) => svg.querySelectorAll('path').length > 0));
    }
    await page.getByRole('list', { name: 'Log' }).getByRole('listitem').first().waitFor();
    // The words of the report come when the baseline has ended, too.
    const { verdict } = await (await page.request.get(`${new URL(page.url()).origin}/${job.slice(2)}/report`)).json();
    await page.getByText(verdict, { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Its baseline (succeeded)' }).waitFor();
    assert.equal(await page.evaluate(() => window.stillThis), true);
  });

  step('a finished job shows what it reached on the test images, per class and per group', async ({ page, open }) => {
    await open(job, 'MixMatch on blobs succeeded');
    await page.getByText('80 images, seen once').waitFor();
    const figures = await cells(page, 'Precision, recall and F1 per class');
    assert.deepEqual(figures.map((row) => row.slice(0, 2)), [['blue', '40'], ['red', '40']]);
    const groups = await cells(page, 'Accuracy by group');
    assert.deepEqual(groups.map((row) => row.slice(0, 3)), [['source', 'camera', '40'], ['source', 'phone', '40']]);
    await table(page, /^Confusion/).waitFor();
    // Whether it is good comes before how it came about, with the number of images and the interval, where nobody need point.
    const heads = await page.getByRole('heading', { level: 2 }).allTextContents();
    assert.ok(heads.indexOf('Test') >= 0 && heads.indexOf('Test') < heads.indexOf('Epochs'), `${heads}`);
    for (const [name, images] of [['Best validation accuracy', 16], ['Test accuracy', 80]]) {
      assert.match(await page.locator('.tile').filter({ hasText: name }).innerText(), new RegExp(`[\\d.]+\\s% to [\\d.]+\\s% at 95\\s%, ${images} images`));
    }
    const abstaining = await cells(page, 'If it may abstain');
    assert.match(abstaining[0].join(' '), /^50\s% 100\.0\s% [\d.]+\s%$/);
    assert.equal(abstaining.at(-1)[0], '99\u202f%');
    // What saves them stands together at the end of the line.
    const [sheet, board] = await Promise.all(['Metrics as CSV', 'For TensorBoard'].map((name) => button(page, name).boundingBox()));
    assert.ok(Math.abs(board.x - sheet.x - sheet.width) < 20, `${sheet.x} + ${sheet.width} to ${board.x}`);

    const saved = page.waitForEvent('download');
    await button(page, 'Metrics as CSV').click();
    const metrics = await readFile(await (await saved).path(), 'utf8');
    assert.match(metrics, /^epoch,/);
    assert.equal(metrics.trim().split('\n').length, 3, 'a head and two epochs');
  });

  step('what looked wrong at the epoch whose weights were taken is said in words', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    let state = 'succeeded';
    await page.route(`**/jobs/${job.split('/').at(-1)}`, async (route) => {
      const response = await route.fetch();
      const now = await response.json();
      await route.fulfill({ response, json: { ...now, state, best: { ...now.best, warnings: ['guesses_collapsed'] } } });
    });
    await open(job, 'MixMatch on blobs succeeded');
    await page.getByText(/^Doubt at epoch \d/).waitFor();
    await page.getByText(/^A class that the labels have is hardly guessed among the unlabelled images\./).waitFor();
    // Of one that has ended otherwise none were taken.
    state = 'canceled';
    await page.reload();
    await title(page, 'MixMatch on blobs canceled').waitFor();
    assert.equal(await page.getByText(/^Doubt at epoch/).count(), 0);
  });

  step('a job whose data set is gone is run again on none that nobody chose', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const id = job.split('/').at(-1);
    await page.route(`**/jobs/${id}`, async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), dataset: { id: '00000000-0000-7000-8000-000000000000', name: 'gone-faces' } } });
    });
    await open(`#/jobs/new?from=${id}`, 'New job');
    assert.equal(await field(page, 'Data set').inputValue(), '');
    await page.getByText('The earlier job’s data set gone-faces is gone: choose another').waitFor();
    await open('#/jobs/new?dataset=nowhere', 'New job');
    await page.getByText('There is no data set nowhere: choose another').waitFor();
  });

  step('a job that is changed and run again leaves to the server what that made of the run’s length', async ({ page, open }) => {
    await open(job, 'MixMatch on blobs succeeded');
    const { config } = await (await page.request.get(`${new URL(page.url()).origin}/${job.slice(2)}`)).json();
    assert.equal(config.bn_momentum, 5 / 12, 'of two epochs of six steps');
    await page.getByRole('link', { name: 'Change and run again' }).click();
    await title(page, 'New job').waitFor();
    const given = JSON.parse(await field(page, 'More hyper-parameters').inputValue());
    assert.deepEqual([given.epochs, given.steps_per_epoch, given.network, given.lambda_u], [2, 6, 'wrn-10-1', config.lambda_u]);
    assert.equal('bn_momentum' in given, false);

    // λ_U depends on the number of classes, and nobody can tell whose it is: that is said.
    await page.route('**/datasets?*', async (route) => {
      const response = await route.fetch();
      const page = await response.json();
      const [blobs] = page.items;
      await route.fulfill({ response, json: { ...page, items: [...page.items, { ...blobs, id: 'another', name: 'of-three', classes: ['a', 'b', 'c'] }] } });
    });
    await page.reload();
    await title(page, 'New job').waitFor();
    const hint = page.getByText(/lambda_u was for 2 classes: left out, the preset’s is scaled to the 3 here$/);
    assert.equal(await hint.count(), 0, 'the same data set');
    await field(page, 'Data set').selectOption('another');
    await hint.waitFor();
    await fillJob(page, { 'More hyper-parameters': SHORT_RUN });
    await hint.waitFor({ state: 'detached' });
    await page.unroute('**/datasets?*');
  });

  step('a job that took all labels is run again with all of them, and what is said twice is not sent', async ({ page, open, expects }) => {
    expects(422, '/jobs');
    const set = { id: 'many', name: 'many', task: 'blob', classes: ['red', 'blue'], counts: { train: { red: 1000, blue: 1000 }, test: {}, unlabelled: 0 } };
    const sent = [];
    const few = { ...set, id: 'few', name: 'few', counts: { ...set.counts, train: { red: 300, blue: 300 } } };
    await page.route('**/datasets?*', (route) => route.fulfill({ json: { items: [set, few], next_cursor: null } }));
    const job = (id, dataset) => ({ id, dataset: { id: dataset, name: dataset }, config: { preset: 'reference', labelled: null, seed: 1, k: 4 } });
    await page.route('**/jobs/all', (route) => route.fulfill({ json: job('all', 'many') }));
    await page.route('**/jobs/rest', (route) => route.fulfill({ json: job('rest', 'few') }));
    await page.route('**/jobs', (route) => {
      sent.push(route.request().postDataJSON());
      return route.fulfill({ status: 422, contentType: 'application/problem+json', json: { title: 'Refused', status: 422, detail: 'this is enough', errors: [] } });
    });
    await open('#/jobs/new?from=all', 'New job');
    await page.getByText(/Empty takes all of these;/).waitFor();
    await fillJob(page, { 'More hyper-parameters': '{"seed": 2, "k": 4}' });
    await button(page, 'Queue the job').click();
    assert.match(await complaint(page, 'More hyper-parameters'), /^seed has a field of its own/);
    assert.deepEqual(sent, []);
    await fillJob(page, { 'More hyper-parameters': '{"k": 4}' });
    await button(page, 'Queue the job').click();
    await page.getByText('this is enough').waitFor();
    assert.deepEqual(sent, [{ dataset: 'many', algorithm: 'mixmatch', preset: 'reference', labelled: null, seed: 1, baseline: true, k: 4 }]);

    await open('#/jobs/new?dataset=many', 'New job');
    await page.reload();
    await fillJob(page, { Preset: 'reference' });
    await page.getByText(/Empty takes 1,000 of these, the preset’s number;/).waitFor();
    // A job that took all since the preset's number was more than there were takes that number where it is there.
    await open('#/jobs/new?from=rest', 'New job');
    await page.getByText(/Empty takes all of these;/).waitFor();
    await field(page, 'Data set').selectOption('many');
    await page.getByText(/Empty takes 1,000 of these, the preset’s number;/).waitFor();
    await button(page, 'Queue the job').click();
    await until('it is sent', () => sent.length === 2);
    assert.equal('labelled' in sent[1], false);
  });

  step('a chart answers to keys and its legend', async ({ page, open }) => {
    await open(job, 'MixMatch on blobs succeeded');
    const chart = page.getByRole('figure').filter({ hasText: 'Accuracy' }).first();
    const line = chart.getByRole('button', { name: /^validation [\d.]+\s%$/ });
    await line.click();
    assert.equal(await line.getAttribute('aria-pressed'), 'false');
    await page.getByRole('img', { name: 'Accuracy by epoch', exact: true }).press('Home');
    await page.getByRole('status').filter({ hasText: /^epoch 1: / }).waitFor({ state: 'attached' });
    await chart.getByText('epoch 1', { exact: true }).waitFor();
  });

  step('two seeds make a sweep, whose table and report fill by themselves', async ({ page, open }) => {
    await open('#/jobs/new', 'New job');
    await fillJob(page, { Preset: 'quick', Labels: '40', Seed: '1, 2', 'Compare with the supervised baseline': false, 'More hyper-parameters': SHORT_RUN });
    await button(page, 'Queue the job').click();
    await title(page, 'Sweep on blobs succeeded').waitFor();
    sweep = new URL(page.url()).hash;
    const jobs = await cells(page, 'Jobs of the sweep');
    assert.deepEqual(jobs.map((row) => row.slice(0, 4)), [['MixMatch', '40', '1', 'succeeded'], ['MixMatch', '40', '2', 'succeeded']]);
    const [mean] = await cells(page, 'Mean and standard deviation over seeds');
    assert.deepEqual(mean.slice(0, 3), ['40', 'MixMatch', '2']);
    assert.match(mean[3], /^[\d.]+\s% ± [\d.]+\s%$/);

    const saved = page.waitForEvent('download');
    await button(page, 'As Markdown').click();
    assert.match(await readFile(await (await saved).path(), 'utf8'), /\|.*\bMixMatch\b.*\|/i);
  });

  step('a sweep’s differences to the baseline have their sign', async ({ page, open }) => {
    const difference = {
      algorithm: 'mixmatch', labelled: 40, values: {}, pairs: 2, seeds: [1, 2], wins: 2, losses: 0, finding: 'undecided', chosen: true, interval: [-0.026, 0.106],
      validation_accuracy: { mean: -0.015, sd: 0.002 }, test_accuracy: { mean: 0.04, sd: 0.066 },
      groups: [{ attribute: 'source', value: 'phone', images: 40, finding: 'undecided', baseline_accuracy: { mean: 0.8, sd: 0.1 }, test_accuracy: { mean: 0.031, sd: null }, interval: null },
        { attribute: 'source', value: 'camera', images: 40, finding: 'undecided', baseline_accuracy: { mean: 0.8, sd: 0.1 }, test_accuracy: { mean: -0.0003, sd: 0.01 }, interval: [-0.0004, 0.0003] }],
    };
    await page.route('**/jobs/*/report', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), differences: [difference] } });
    });
    await open(sweep, 'Sweep on blobs succeeded');
    const [line] = await cells(page, 'Differences to the baseline');
    assert.deepEqual(line.slice(2, 5), ['-1.5 ± 0.2', '+4.0 ± 6.6', '-2.6 to +10.6']);
    const [group, level] = await cells(page, 'Differences to the baseline by group of the test images');
    assert.deepEqual(group.slice(4, 6), ['80.0\u202f% ± 10.0\u202f%', '+3.1']);
    assert.deepEqual(level.slice(5, 7), ['0.0 ± 1.0', '0.0 to 0.0'], 'what rounds to nothing has none');
    await page.unroute('**/jobs/*/report');
  });

  step('a sweep that is deleted from elsewhere is said to be gone', async ({ page, open, expects }) => {
    await page.clock.install();
    await open(sweep, 'Sweep on blobs succeeded');
    const path = `/jobs/${sweep.split('/').at(-1)}`;
    expects(404, path);
    await page.route(`**${path}`, (route) => route.fulfill({ status: 404, contentType: 'application/problem+json', body: JSON.stringify({ type: 'about:blank', title: 'Not found', status: 404, detail: 'there is no job of that id' }) }));
    await page.clock.runFor(31_000);
    await title(page, 'This could not be shown').waitFor();
    await page.getByRole('alert').getByText('there is no job of that id').waitFor();
  });

  step('a sweep and the list of jobs count the steps of pretraining', async ({ base, page, open }) => {
    const path = `/jobs/${sweep.split('/').at(-1)}`;
    const now = await (await page.request.get(`${base}${path}`)).json();
    const first = await (await page.request.get(`${base}/jobs/${now.jobs[0].id}`)).json();
    const pretraining = { epoch: 2, epochs: 4, step: 4, steps: 8, images_per_second: 9, eta_seconds: 3 };
    let running = { ...first, state: 'running', phase: 'pretraining', step: 0, steps: 12, pretraining };
    await page.route(`**${path}`, (route) => route.fulfill({ json: { ...now, state: 'running', counts: { ...now.counts, succeeded: 1, running: 1 }, step: 12, steps: 24 } }));
    await page.route('**/jobs?*', (route) => route.fulfill({ json: { items: [running], next_cursor: null } }));
    await open(sweep, 'Sweep on blobs running');
    await page.getByText('60\u202f% of all steps · 1 job pretrains', { exact: true }).waitFor();
    assert.equal(await page.getByRole('progressbar', { name: 'Progress of the sweep' }).evaluate((bar) => Math.round(100 * bar.value)), 60);
    running = { ...running, sweep: null };
    await goTo(page, 'Jobs');
    assert.deepEqual((await cells(page, 'Jobs')).map((line) => line[3]), ['running pretraining 50\u202f%']);
  });

  step('a sweep marks what validation chose, and runs with and without pretraining are not rivals', async ({ page, open }) => {
    const row = (algorithm, labelled, epochs) => ({
      algorithm, labelled, values: { pretrain_epochs: epochs }, jobs: 1, n: 1, seeds: [1], chosen: true, marked: algorithm === 'mixmatch',
      validation_accuracy: { mean: 0.8, sd: null }, test_accuracy: null, test_f1_macro: null, best_epoch: { mean: 2.25, sd: null }, seconds: null,
    });
    const rows = [40, 80].flatMap((labelled) => [row('supervised', labelled, 0), row('supervised', labelled, 9), row('mixmatch', labelled, 9)]);
    await page.route('**/jobs/*/report', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), axes: ['pretrain_epochs'], rows } });
    });
    await open(sweep, 'Sweep on blobs succeeded');
    const lines = await cells(page, 'Mean and standard deviation over seeds');
    assert.deepEqual(lines.slice(0, 3).map((line) => line.slice(1, 3)), [['Supervised', '0'], ['Supervised', '9'], ['MixMatch chosen on validation', '9']]);
    assert.equal(lines[0].at(-2), '2.2', 'rounded as the report rounds it');
    // Each kind has a line of its own in the chart.
    for (const label of ['Supervised, pretrain_epochs 0', 'Supervised, pretrain_epochs 9', 'MixMatch']) {
      await page.getByRole('button', { name: new RegExp(`^${label}`) }).waitFor();
    }
    await page.unroute('**/jobs/*/report');
  });

  step('a running job moves, pauses, goes on, is canceled and deleted', async ({ page, open, expects }) => {
    await open('#/jobs/new', 'New job');
    await fillJob(page, { Preset: 'quick', Labels: '40', 'Compare with the supervised baseline': false, 'More hyper-parameters': `{"epochs": 2000, ${SMALL_STEPS}}` });
    await button(page, 'Queue the job').click();
    await title(page, 'MixMatch on blobs running').waitFor();
    const long = new URL(page.url()).hash;
    await page.getByText(/epoch ([2-9]|\d\d+) of 2,000/).waitFor();
    await goTo(page, 'Overview');
    await page.getByRole('progressbar', { name: 'Progress of MixMatch on blobs' }).waitFor();
    await page.getByRole('link', { name: 'MixMatch on blobs', exact: true }).click();

    await button(page, 'Pause').click();
    await title(page, 'MixMatch on blobs paused').waitFor();
    await button(page, 'Resume').click();
    await title(page, 'MixMatch on blobs running').waitFor();
    await button(page, 'Cancel').click();
    await title(page, 'MixMatch on blobs canceled').waitFor();
    // The page may be asking for the job's last news while it goes.
    expects(404, long.slice(1));
    await button(page, 'Delete').click();
    await button(page, 'Delete for good?').click();
    await title(page, 'Jobs').waitFor();
    await rows(page, 'Jobs').first().waitFor();
    assert.equal(await page.locator(`a[href="${long}"]`).count(), 0);
  });

  step('the overview says why a server is not ready', async ({ page, open, expects }) => {
    const detail = 'cuda:0 cannot even add two numbers';
    await page.route('**/readyz', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Service Unavailable', status: 503, detail }) }));
    expects(503, '/readyz');
    await open('', 'Overview');
    await page.getByText(`Not ready: ${detail}`).waitFor();
    await page.unroute('**/readyz');
    await page.getByText(/^Predicts on cpu in (bf16|float32) · 1 training slot/).waitFor();
  });

  step('the overview says how many models compute in int8', async ({ page, open }) => {
    await page.route('**/readyz', async (route) => {
      const response = await route.fetch();
      const { predict, ...ready } = await response.json();
      await route.fulfill({ response, json: { ...ready, predict: { ...predict, int8: ['blobs:1'] } } });
    });
    await open('', 'Overview');
    await page.getByText(/^Predicts on cpu in (bf16|float32) \(1 model in int8\) · 1 training slot/).waitFor();
    await page.unroute('**/readyz');
  });

  step('marked jobs are compared', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const boxes = page.getByRole('checkbox', { name: /^Compare / });
    await boxes.first().waitFor();
    assert.equal(await boxes.count(), 2, 'the job and its baseline; a sweep is one line without a box');
    assert.equal(await button(page, 'Compare').isDisabled(), true);
    for (const line of await cells(page, 'Jobs')) if (!line[0].startsWith('Sweep')) assert.match(line[5], /^[\d.]+\s%[\d.]+–[\d.]+\s% 80 images$/);
    for (const box of await boxes.all()) await box.check();
    await button(page, 'Compare 2').click();
    await title(page, 'Compare').waitFor();
    assert.equal(await rows(page, 'Results').count(), 2);
    const chart = page.getByRole('img', { name: 'Validation accuracy by epoch' });
    await until('the chart has two lines', () => chart.evaluate((svg) => svg.querySelectorAll('path').length === 2));
    await rows(page, 'Hyper-parameters that differ').filter({ hasText: /^algorithm/ }).waitFor();
    assert.equal(await page.getByText(/not of the same images/).count(), 0);
    await field(page, 'Figure').selectOption({ label: 'Loss' });
    await page.getByRole('img', { name: 'Loss by epoch' }).waitFor();
    await page.getByRole('button', { name: /^Leave out Supervised/ }).click();
    await until('one is left', async () => (await rows(page, 'Results').count()) === 1);

    // Whoever comes back for another choice has this one still.
    await goTo(page, 'Jobs');
    await boxes.first().waitFor();
    assert.equal(await page.getByRole('checkbox', { checked: true }).count(), 2);
    await button(page, 'Unmark all').click();
    assert.equal(await page.getByRole('checkbox', { checked: true }).count(), 0);
    assert.equal(await button(page, 'Compare').isDisabled(), true);
  });

  step('figures of different data sets are said to be of different images, and of how many', async ({ base, page, open }) => {
    const { items } = await (await page.request.get(`${base}/jobs`)).json();
    const ids = items.filter((one) => !one.sweep).map((one) => one.id);
    assert.equal(ids.length, 2);
    await page.route('**/jobs/*', async (route) => {
      const answer = await route.fetch();
      const now = await answer.json();
      const other = now.algorithm === 'supervised' && { dataset: { id: 'another', name: 'faces' }, test: { ...now.test, images: 20 } };
      await route.fulfill({ response: answer, json: { ...now, ...other } });
    });
    await open(`#/compare?ids=${ids.join(',')}`, 'Compare');
    await page.getByText(/not of the same images: .*blobs \(16 validation images, 80 test images\)/).waitFor();
    const [set, labels, validation, test] = await cells(page, 'Hyper-parameters that differ');
    assert.deepEqual([set[0], labels, validation, test[0]], ['data set', ['labels', '40', '40'], ['validation images', '16', '16'], 'test images']);
    assert.deepEqual(new Set(test.slice(1)), new Set(['80', '20']));
  });

  step('a job that is retried from elsewhere is compared as it is now', async ({ page, open }) => {
    await page.clock.install();
    await open('#/jobs', 'Jobs');
    const id = job.split('/').at(-1);
    let state = 'canceled';
    await page.route(`**/jobs/${id}`, async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), state } });
    });
    await open(`#/compare?ids=${id}`, 'Compare');
    await rows(page, 'Results').filter({ hasText: 'canceled' }).waitFor();
    state = 'succeeded';
    await page.clock.runFor(61_000);
    await rows(page, 'Results').filter({ hasText: 'succeeded' }).waitFor();
  });

  step('a thousand classes do not bring the page to a standstill', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const [nodes, first] = await page.evaluate(async () => {
      const { testResult } = await import('/assets/job-test.js');
      const many = 1000;
      const confusion = Array.from({ length: many }, (_, i) => Array.from({ length: many }, (_, j) => (i === j ? 90 : Number((i + 1) % many === j) * (i + 1))));
      const classes = confusion.map((_, i) => `class-${i}`);
      const of = { images: 1, precision: 0.5, recall: 0.5, f1: 0.5, recall_interval: [0.4, 0.6] };
      const node = testResult({ images: 1, best_epoch: 1, accuracy: 0.5, accuracy_interval: [0.4, 0.6], positive_class: 'class-0', f1: 0.5, f1_macro: 0.5, balanced_accuracy: 0.5,
        roc_auc: 0.5, roc_auc_macro: 0.5, calibration_error: 0.1, calibration_error_raw: 0.1, loss: 1, confusion, groups: [], classes: classes.map((name) => ({ class: name, ...of })) }, classes);
      const lines = [...node.querySelectorAll('table')].find((one) => one.caption?.textContent.includes('confused')).tBodies[0].rows;
      return [node.querySelectorAll('*').length, [...lines[0].cells].map((cell) => cell.textContent)];
    });
    assert.ok(nodes < 20_000, `${nodes} nodes`);
    assert.deepEqual(first.slice(0, 3), ['class-999', 'class-0', '1,000']);
  });

  step('figures of a class that has no test images, or no answers, are not told as nought', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const [tile, ...rows] = await page.evaluate(async () => {
      const { testResult } = await import('/assets/job-test.js');
      const of = (name, images, figure) => ({ class: name, images, precision: figure, recall: figure, f1: figure, recall_interval: [0, 1] });
      // None of a; b is right, and what is c was answered as b or as a.
      const node = testResult({ images: 4, best_epoch: 1, accuracy: 0.5, accuracy_interval: [0.2, 0.8], positive_class: 'a', f1: 0, f1_macro: 0.5, balanced_accuracy: 0.5,
        calibration_error: 0.1, calibration_error_raw: 0.1, loss: 1, groups: [], confusion: [[0, 0, 0], [0, 2, 0], [1, 1, 0]], classes: [of('a', 0, 0), of('b', 2, 0.8), of('c', 2, 0)] }, ['a', 'b', 'c']);
      const words = (cells) => [...cells].map((cell) => cell.textContent);
      const table = [...node.querySelectorAll('table')].find((one) => one.caption?.textContent.includes('per class'));
      return [words([...node.querySelectorAll('.tile')].find((one) => one.textContent.startsWith('F1 of a')).children), ...[...table.tBodies[0].rows].map((row) => words(row.cells))];
    });
    assert.deepEqual(tile, ['F1 of a', '–']);
    assert.deepEqual(rows, [['a', '0', '0.0\u202f%', '–', '–'], ['b', '2', '80.0\u202f%', '80.0\u202f%', '0.800'], ['c', '2', '–', '0.0\u202f%', '0.000']]);
  });

  step('of groups that are level none is called the lowest, and those too small to be called so are left out of it', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const told = await page.evaluate(async () => {
      const { testResult } = await import('/assets/job-test.js');
      const group = (attribute, value, images, accuracy) => ({ attribute, value, images, accuracy, interval: [0, 1], f1: null });
      const gap = (attribute, worst, best, from, to) => ({ attribute, worst, best, worst_accuracy: from, best_accuracy: to, gap: to - from, below_whole: 0, intervals_overlap: true });
      const node = testResult({ images: 300, best_epoch: 1, accuracy: 0.9, accuracy_interval: [0.8, 0.95], positive_class: 'a', f1: 0.9, f1_macro: 0.9, balanced_accuracy: 0.9,
        calibration_error: 0.1, calibration_error_raw: 0.1, loss: 1, confusion: [[1, 0], [0, 1]], classes: [],
        groups: [group('level', 'A', 70, 1), group('level', 'B', 77, 1), group('level', 'C', 13, 0), group('sex', 'f', 80, 1), group('sex', 'm', 80, 1), group('age', 'old', 80, 0.8), group('age', 'young', 80, 0.9)],
        group_gaps: [gap('level', 'A', 'B', 1, 1), gap('sex', 'f', 'm', 1, 1), gap('age', 'old', 'young', 0.8, 0.9)] }, ['a', 'b']);
      return [...node.querySelectorAll('p.anywhere')].map((line) => line.textContent);
    });
    assert.deepEqual(told, [
      'level: no difference between its groups of 30 images and more, 100.0\u202f% in each.',
      'sex: no difference between its groups, 100.0\u202f% in each.',
      'age: lowest old 80.0\u202f%, highest young 90.0\u202f%, gap 10.0\u202f%; may be chance.',
    ]);
  });

  step('names that are written from right to left tear no line apart', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const told = await page.evaluate(async () => {
      const { testResult } = await import('/assets/job-test.js');
      const [attribute, worst, best] = ['الجنس', 'ذكر', 'أنثى'];
      const node = testResult({ images: 80, best_epoch: 1, accuracy: 0.9, accuracy_interval: [0.8, 0.95], positive_class: 'a', f1: 0.9, f1_macro: 0.9, balanced_accuracy: 0.9,
        calibration_error: 0.1, calibration_error_raw: 0.1, loss: 1, confusion: [[1, 0], [0, 1]], classes: [], groups: [{ attribute, value: best, images: 40, accuracy: 1, interval: [0.9, 1], f1: 1 }],
        group_gaps: [{ attribute, worst, best, worst_accuracy: 0.8, best_accuracy: 1, gap: 0.2, below_whole: 0, intervals_overlap: false }] }, ['a', 'b']);
      return [...node.querySelectorAll('p bdi')].map((name) => name.textContent);
    });
    assert.deepEqual(told, ['الجنس', 'ذكر', 'أنثى']);
  });

  step('of several classes the mean area is told where the positive class has no test images', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const told = await page.evaluate(async () => {
      const { testResult } = await import('/assets/job-test.js');
      return [[3, null, 0.875], [3, 0.5, null], [2, null, null], [2, 0.75, 0.5]].map(([classes, own, mean]) => {
        const confusion = Array.from({ length: classes }, (_, i) => Array.from({ length: classes }, (_, j) => Number(i === j)));
        const node = testResult({ images: 4, best_epoch: 1, accuracy: 0.5, accuracy_interval: [0.2, 0.8], positive_class: 'a', f1: 0, f1_macro: 0.5, balanced_accuracy: 0.5,
          roc_auc: own, roc_auc_macro: mean, calibration_error: 0.1, calibration_error_raw: 0.1, loss: 1, groups: [], confusion, classes: [] }, ['a', 'b', 'c'].slice(0, classes));
        const tile = [...node.querySelectorAll('.tile')].find((one) => one.textContent.startsWith('ROC-AUC'));
        return tile ? [...tile.children].map((part) => part.textContent) : null;
      });
    });
    assert.deepEqual(told, [['ROC-AUC', '0.875', 'mean of one against the rest'], null, null, ['ROC-AUC', '0.750', 'of a']]);
  });

  step('a supervised champion is said to have used no images without label, unless it pretrained', async ({ page, open }) => {
    await open('#/jobs', 'Jobs');
    const config = {};
    await page.route(/\/models\/blob\/versions\/\d+$/, async (route) => {
      const answer = await route.fetch();
      const version = await answer.json();
      await route.fulfill({ response: answer, json: { ...version, manifest: { ...version.manifest, config: { ...version.manifest.config, ...config } } } });
    });
    const isTold = async (algorithm, pretrainEpochs) => {
      Object.assign(config, { algorithm, pretrain_epochs: pretrainEpochs });
      await page.goto('about:blank');
      await open('#/models', 'Models');
      await page.getByText('Network, split and preprocessing', { exact: true }).click();
      await page.getByText('Labels trained with', { exact: true }).waitFor();
      return (await page.getByText('Images used without label', { exact: true }).count()) > 0;
    };
    assert.deepEqual([await isTold('supervised', 0), await isTold('supervised', 9), await isTold('mixmatch', 0)], [false, true, true]);
  });

  step('the champion’s alias moves to another version', async ({ page, open }) => {
    await open('#/models', 'Models');
    const versions = rows(page, 'Versions of blob');
    const champion = versions.filter({ has: page.getByText('champion', { exact: true }) });
    const others = versions.filter({ has: page.getByRole('button', { name: /^Make champion / }) });
    const [before] = await champion.allInnerTexts();
    assert.equal(await champion.count(), 1, 'the first job’s version became it');
    const next = (await others.first().innerText()).split('\t')[0];
    await others.first().getByRole('button', { name: 'Make champion' }).click();
    await until(`${next} is the champion`, async () => (await champion.allInnerTexts())[0]?.startsWith(next));
    assert.equal(await champion.count(), 1);
    assert.notEqual((await champion.innerText()).split('\t')[0], before.split('\t')[0]);
  });

  step('a version says what trained it and with how many labels, and its card is there to be read', async ({ page, open }) => {
    await open('#/models', 'Models');
    const trained = await rows(page, 'Versions of blob').allTextContents();
    assert(trained.some((row) => /MixMatch\d/.test(row)) && trained.every((row) => /(MixMatch|Supervised)\d/.test(row)), trained.join('\n'));
    const saved = page.waitForEvent('download');
    await rows(page, 'Versions of blob').last().getByRole('button', { name: 'Model card' }).click();
    const file = await saved;
    assert.equal(file.suggestedFilename(), 'blob-1.md');
    assert.match(await readFile(await file.path(), 'utf8'), /^# blob version 1\n/);
  });

  step('a model says what is on an image, abstains when told to, and takes a broken image as that image’s problem', async ({ page, open }) => {
    await open('#/predict', 'Predict');
    await page.getByLabel(/^Choose images/).setInputFiles([
      { name: 'one.png', mimeType: 'image/png', buffer: blob(0, 9001) },
      { name: 'two.png', mimeType: 'image/png', buffer: blob(1, 9002) },
      { name: 'broken.png', mimeType: 'image/png', buffer: Buffer.from('this is no image') },
    ]);
    const result = (file) => page.getByRole('listitem').filter({ has: page.getByText(file, { exact: true }) });
    await result('one.png').getByText(/^red [\d.]+\s%$/).waitFor();
    await result('two.png').getByText(/^blue [\d.]+\s%$/).waitFor();
    await result('broken.png').getByText(/this is no image format/).waitFor();
    await page.getByText(/^2 images by blob:\d+ in /).waitFor();
    await page.getByRole('status').filter({ hasText: /^2 images classified, 1 without an answer$/ }).waitFor({ state: 'attached' });
    await page.getByRole('slider', { name: /^Abstain below/ }).fill('1');
    await result('one.png').getByText(/^undecided /).waitFor();

    // The command below asks what the page asks.
    const asked = page.waitForRequest('**/predict?*');
    await page.getByRole('slider', { name: /^Abstain below/ }).fill('0.85');
    await page.getByLabel(/^Choose images/).setInputFiles([{ name: 'three.png', mimeType: 'image/png', buffer: blob(0, 9003) }]);
    const query = decodeURIComponent(new URL((await asked).url()).search);
    assert.match(query, /threshold=0\.85/);
    await page.getByText('The same with curl', { exact: true }).click();
    await page.getByText(`/predict${query}'`).waitFor();
    await field(page, 'Model').selectOption('blob:1');
    await page.getByText("/predict?model=blob:1&threshold=0.85'").waitFor();
  });

  step('the face that was classified is framed, and where none was found that is said', async ({ page, open }) => {
    // What a model with `fit: face` answers; none is trained here, as faces cannot be drawn in a few lines.
    const said = (face) => ({ label: 'red', probability: 0.97, probabilities: { red: 0.97, blue: 0.03 }, abstained: face === null, face });
    const face = { left: 4, top: 6, side: 16, roll: 30, score: 0.9 };
    const timings = { decode_ms: 1, queue_ms: 0, inference_ms: 1, total_ms: 2, batch_size: 2 };
    await open('#/predict', 'Predict');
    await page.route('**/predict?*', (route) => route.fulfill({ json: { model: { name: 'blob', version: 1 }, results: [said(face), said(null)], timings } }));
    await page.getByLabel(/^Choose images/).setInputFiles([
      { name: 'somebody.png', mimeType: 'image/png', buffer: blob(0, 9001) },
      { name: 'nobody.png', mimeType: 'image/png', buffer: blob(1, 9002) },
    ]);
    const result = (file) => page.getByRole('listitem').filter({ has: page.getByText(file, { exact: true }) });
    await result('somebody.png').getByText(/^red 97/).waitFor();
    await result('nobody.png').getByText(/^undecided 97/).waitFor();
    await result('nobody.png').getByText('No face was found').waitFor();
    const frame = result('somebody.png').locator('svg');
    await frame.waitFor();
    // Over the picture, in its own pixels: as large as the picture shows it, turned about its middle.
    const [viewBox, transform] = await frame.evaluate((svg) => [svg.getAttribute('viewBox'), svg.firstChild.getAttribute('transform')]);
    assert.deepEqual([viewBox, transform], ['0 0 32 32', 'rotate(30 12 14)']);
    assert.equal(await result('nobody.png').locator('svg').count(), 0);
    const [over, under] = await Promise.all([frame.boundingBox(), result('somebody.png').locator('img').boundingBox()]);
    assert.deepEqual(over, under);
    await page.unroute('**/predict?*');
  });

  step('addresses lead to their pages, and back leads back', async ({ page, open, expects }) => {
    await open(job, 'MixMatch on blobs succeeded');
    await until('the title names the job', async () => (await page.title()) === 'MixMatch on blobs · mixmatch');
    await goTo(page, 'Models');
    assert.equal(await page.getByRole('link', { name: 'Models', exact: true }).getAttribute('aria-current'), 'page');
    await page.goBack();
    await title(page, 'MixMatch on blobs succeeded').waitFor();
    await page.goForward();
    await title(page, 'Models').waitFor();
    await open('#/nowhere', 'Nothing here');
    expects(404, '/datasets/nothing');
    await open('#/datasets/nothing', 'This could not be shown');
    await page.getByRole('alert').waitFor();
  });

  for (const colorScheme of ['dark', 'light']) {
    step(`every page that is linked to fits on 360 pixels, and is ${colorScheme}`, async ({ page, open }) => {
      await open('#/jobs', 'Jobs');
      const sweep = await page.getByRole('link', { name: /^Sweep/ }).getAttribute('href');
      const pages = ['#/', job, sweep, `#/compare?ids=${job.split('/').at(-1)}`, '#/nowhere'];
      const known = new Set(pages.map(kind));
      // More are found on the way.
      for (const address of pages) {
        await page.goto('about:blank');
        await open(address, /./);
        await page.evaluate(() => document.querySelectorAll('details').forEach((one) => { one.open = true; }));
        await until(`${address} has loaded`, () => page.evaluate(() => !document.body.innerText.includes('Loading…') && [...document.images].every((image) => image.complete)));
        assert.deepEqual(await page.evaluate(tooWide), [], `${address} is wider than the window`);
        const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).every((part) => part > 128));
        assert.equal(light, colorScheme === 'light', `the ground of ${address}`);
        for (const link of await page.locator('a[href^="#/"]').all()) {
          const next = await link.getAttribute('href');
          if (!known.has(kind(next))) pages.push(next);
          known.add(kind(next));
        }
      }
      for (const name of ['datasets', 'datasets/{id}', 'jobs/new', 'models', 'predict']) assert.ok(known.has(`#/${name}`), `no page leads to #/${name}`);
    }, { colorScheme, viewport: { width: 360, height: 740 } });
  }
});

/// An address without what makes it one of many.
const kind = (address) => address.replace(/\?.*/, '').replace(/[0-9a-f-]{36}/, '{id}');
