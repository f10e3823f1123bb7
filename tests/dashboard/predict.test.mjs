// The page that asks a model, where an image or a request is refused. A stand-in answers: what is refused depends on it alone.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { blob } from './drawn.mjs';
import { button, change, complaint, field } from './parts.mjs';
import { until, walk } from './walk.mjs';

const MODEL = { name: 'blob', aliases: { champion: 1 }, versions: [{ version: 1, classes: ['red', 'blue'], metrics: {} }] };
const ANSWER = { label: 'red', probability: 0.97, probabilities: { red: 0.97, blue: 0.03 }, abstained: false };
const timings = { decode_ms: 1, queue_ms: 0, inference_ms: 1, total_ms: 2, batch_size: 1 };
const refusal = (status, detail) => ({ status, contentType: 'application/problem+json', json: { title: 'Refused', status, detail, errors: [] } });

const image = (name) => ({ name: `${name}.png`, mimeType: 'image/png', buffer: blob(0, 9001) });
const choose = (page, files) => page.getByLabel(/^Choose images/).setInputFiles(files);
const result = (page, name) => page.getByRole('listitem').filter({ has: page.getByText(`${name}.png`, { exact: true }) });
const heard = (page, text) => page.locator('#announce').getByText(text).waitFor({ state: 'attached' });

/// Answers as `refused(names)` says: with that, or of each image that it is red. Gives the names of each request.
async function answering(page, refused) {
  const asked = [];
  await page.route('**/models?*', (route) => route.fulfill({ json: { items: [MODEL], next_cursor: null } }));
  await page.route('**/predict?*', (route) => {
    const names = [...route.request().postData().matchAll(/filename="(.*?)\.png"/g)].map(([, name]) => name);
    asked.push(names);
    return route.fulfill(refused(names) || { json: { model: { name: 'blob', version: 1 }, results: names.map(() => ANSWER), timings } });
  });
  return asked;
}

walk('refused predictions', {}, (step) => {
  step('of images that are too much together each has its answer, and one that is too much alone its problem', async ({ page, open, expects }) => {
    expects(413, '/predict');
    const asked = await answering(page, (names) => names.includes('large') && refusal(413, names.length > 1 ? 'too many pixels together' : 'too many pixels'));
    await open('#/predict', 'Predict');
    await choose(page, ['a', 'b', 'large', 'c', 'd'].map(image));
    for (const name of ['a', 'b', 'c', 'd']) await result(page, name).getByText(/^red 97/).waitFor();
    await result(page, 'large').getByText('too many pixels', { exact: true }).waitFor();
    await page.getByText(/^4 images by blob:1 in /).waitFor();
    await heard(page, '4 images classified, 1 without an answer');
    assert.deepEqual(asked, [['a', 'b', 'large', 'c', 'd'], ['a', 'b', 'large'], ['a', 'b'], ['large'], ['c', 'd']]);
    assert.equal(await page.getByRole('alert').filter({ hasText: /./ }).count(), 0);
  });

  step('a request that is refused takes none of the others with it, unless they would be refused too', async ({ page, open, expects }) => {
    expects(500, '/predict');
    expects(404, '/predict');
    const names = Array.from({ length: 40 }, (_, at) => `n${at}`);
    let status = 500;
    const asked = await answering(page, (these) => these.includes('n0') && refusal(status, 'it did not work'));
    await open('#/predict', 'Predict');
    await choose(page, names.map(image));
    await page.getByText(/^24 images by blob:1 in /).waitFor();
    await page.getByRole('alert').getByText(/it did not work/).waitFor();
    await result(page, 'n15').getByText('no answer', { exact: true }).waitFor();
    await result(page, 'n39').getByText(/^red 97/).waitFor();
    assert.equal(asked.length, 3);

    // Without the model no other request is worth its while.
    status = 404;
    await page.getByRole('button', { name: 'Clear' }).click();
    await choose(page, names.map(image));
    await heard(page, '0 images classified, 40 without an answer');
    assert.equal(asked.length, 4);
  });

  step('an image that was changed since it was chosen says so, and a folder that it cannot be read', async ({ page, open, expects }) => {
    expects('ERR_UPLOAD_FILE_CHANGED', '/predict');
    // The picture beside it.
    expects('ERR_UPLOAD_FILE_CHANGED', 'blob:');
    const place = await mkdtemp(join(tmpdir(), 'mixmatch-predict-'));
    const files = ['first', 'second'].map((name) => join(place, `${name}.png`));
    for (const file of files) await writeFile(file, blob(0, 9001));
    await answering(page, () => null);
    await open('#/predict', 'Predict');
    await page.evaluate(() => {
      // Between the choice and the request: there is no other moment at which a test could change it.
      const { fetch } = window;
      window.fetch = async (address, ...rest) => {
        if (String(address).startsWith('/predict')) await window.changeFile();
        return fetch(address, ...rest);
      };
    });
    let changes = 0;
    await page.exposeFunction('changeFile', async () => {
      changes += 1;
      if (changes === 1) await change(files[0], 'another file');
    });
    await page.unroute('**/predict?*');
    await page.route('**/predict?*', async (route) => (changes > 1 ? route.fulfill({ json: { model: { name: 'blob', version: 1 }, results: [ANSWER], timings } }) : route.continue()));
    await choose(page, files);
    await result(page, 'first').getByText('This file was changed since it was chosen: choose it again').waitFor();
    await result(page, 'second').getByText(/^red 97/).waitFor();
    assert.equal(await page.getByText('The server does not answer').isVisible(), false);

    const zone = await page.getByText('Choose images').boundingBox();
    const devtools = await page.context().newCDPSession(page);
    const drop = async (paths) => {
      const at = { x: zone.x + 5, y: zone.y + 5, data: { items: [], files: paths, dragOperationsMask: 1 } };
      for (const type of ['dragEnter', 'dragOver', 'drop']) await devtools.send('Input.dispatchDragEvent', { type, ...at });
    };
    await drop([place, files[1]]);
    await page.getByRole('alert').getByText('A folder cannot be read here: choose its images').waitFor();
    await heard(page, '1 image classified');
    assert.equal(await page.getByRole('listitem').filter({ has: page.locator('.answer') }).count(), 3, 'the image beside it is taken');
    await rm(place, { recursive: true });
  });

  step('what has no answer is asked about again, one image or all, and a picture that is refused is not', async ({ page, open, expects }) => {
    for (const status of [503, 413]) expects(status, '/predict');
    let away = true;
    const asked = await answering(page, (names) => (names.includes('large') && refusal(413, 'too many pixels')) || (away && refusal(503, 'the queue is full')));
    await open('#/predict', 'Predict');
    await choose(page, ['a', 'b', 'c'].map(image));
    await result(page, 'b').getByText('the queue is full').waitFor();
    await page.getByText('without an answer 3', { exact: true }).waitFor();
    await choose(page, [image('large')]);
    await page.getByText('without an answer 4', { exact: true }).waitFor();
    away = false;
    await button(page, 'Ask again about b.png').click();
    await result(page, 'b').getByText(/^red 97/).waitFor();
    assert.deepEqual(asked.at(-1), ['b']);
    await button(page, 'Ask again about 2 images').click();
    await page.getByText('red 3 · without an answer 1', { exact: true }).waitFor();
    assert.deepEqual(asked.at(-1), ['a', 'c']);
    assert.equal(await page.getByRole('button', { name: /^Ask again/ }).count(), 0);
  });

  step('an answer to a request for many says nothing of each: they may be asked about again, and one alone may not', async ({ page, open, expects }) => {
    for (const status of [400, 415, 422]) expects(status, '/predict');
    let status = 400;
    await answering(page, () => status && refusal(status, 'it cannot be read'));
    await open('#/predict', 'Predict');
    for (status of [400, 415, 422]) {
      await choose(page, ['a', 'b'].map(image));
      await button(page, 'Ask again about 2 images').waitFor();
      await page.getByRole('button', { name: 'Clear' }).click();
    }
    await choose(page, ['a', 'b'].map(image));
    await button(page, 'Ask again about b.png').click();
    await page.getByText('it cannot be read', { exact: true }).nth(1).waitFor();
    await result(page, 'b').getByText('it cannot be read', { exact: true }).waitFor();
    await button(page, 'Ask again about 1 image').waitFor();
    assert.equal(await button(page, 'Ask again about b.png').count(), 0);
    status = null;
    await button(page, 'Ask again about a.png').click();
    await result(page, 'a').getByText(/^red 97/).waitFor();
  });

  step('a model that is gone is not taken for another: one is chosen, and the images wait for it', async ({ page, open }) => {
    const asked = await answering(page, () => null);
    await open('#/predict?model=blob%3A2', 'Predict');
    assert.equal(await complaint(page, 'Model'), 'There is no model blob:2: choose another');
    assert.equal(await field(page, 'Model').inputValue(), '');
    await choose(page, ['a', 'b'].map(image));
    await page.getByText('waiting 2', { exact: true }).waitFor();
    assert.match(await complaint(page, 'Model'), /^Choose a model/);
    assert.deepEqual(asked, []);
    const saved = page.waitForEvent('download');
    await button(page, 'Download as CSV').click();
    assert.equal((await saved).suggestedFilename(), 'predictions.csv');
    await field(page, 'Model').selectOption('blob:1');
    await page.getByText('red 2', { exact: true }).waitFor();
    assert.deepEqual(asked, [['a', 'b']]);
    assert.deepEqual(await field(page, 'Model').locator('option').evaluateAll((options) => options.map(({ value }) => value)), ['blob', 'blob:1']);
    assert.equal(await field(page, 'Model').getAttribute('aria-invalid'), null);

    const taken = { blob: 'blob', 'blob@champion': 'blob', 'blob:1': 'blob:1', 'blob@older': '', gone: '', 'gone@champion': '' };
    for (const [name, value] of Object.entries(taken)) {
      await open(`#/predict?model=${encodeURIComponent(name)}`, 'Predict');
      await page.reload();
      assert.equal(await field(page, 'Model').inputValue(), value, name);
    }
    // A model that has lost its champion is there still, under both of its names.
    await page.route('**/models?*', (route) => route.fulfill({ json: { items: [{ ...MODEL, aliases: {} }], next_cursor: null } }));
    for (const name of ['blob', 'blob@champion']) {
      await open(`#/predict?model=${encodeURIComponent(name)}`, 'Predict');
      await page.reload();
      assert.equal(await field(page, 'Model').inputValue(), 'blob:1', name);
    }
  });

  step('images that wait for their turn are counted, and a sheet that is saved meanwhile says so', async ({ page, open }) => {
    await answering(page, () => null);
    const held = [];
    await page.route('**/predict?*', async (route) => {
      await new Promise((done) => { held.push(done); });
      return route.fallback();
    });
    await open('#/predict', 'Predict');
    await choose(page, Array.from({ length: 40 }, (_, at) => image(`n${at}`)));
    await page.getByText('waiting 40', { exact: true }).waitFor();
    await until('the first are asked about', () => held.length === 1);
    held[0]();
    await page.getByText('red 16 · waiting 24', { exact: true }).waitFor();
    await until('the next are asked about', () => held.length === 2);
    const saved = page.waitForEvent('download');
    await button(page, 'Download as CSV').click();
    const lines = (await readFile(await (await saved).path(), 'utf8')).trim().split('\r\n');
    assert.deepEqual([1, 17, 33].map((at) => lines[at]), ['n0.png,red,0.97,0.97,0.03,false,', 'n16.png,,,,,,not answered yet', 'n32.png,,,,,,not asked yet']);
    held[1]();
    await until('the last are asked about', () => held.length === 3);
    held[2]();
    await page.getByText('red 40', { exact: true }).waitFor();
  });

  step('all that was said is shown by what it is, counted, timed as one waits for it, and saved as a sheet', async ({ page, open }) => {
    const results = {
      sure: ANSWER, unsure: { ...ANSWER, probability: 0.6, probabilities: { red: 0.6, blue: 0.4 } }, other: { ...ANSWER, label: 'blue', probabilities: { red: 0.03, blue: 0.97 } },
      broken: { problem: { detail: 'no image, or "none"' } },
    };
    await answering(page, () => null);
    await page.route('**/predict?*', async (route) => {
      const names = [...route.request().postData().matchAll(/filename="(.*?)\.png"/g)].map(([, name]) => name);
      await new Promise((later) => { setTimeout(later, 1100); });
      await route.fulfill({ json: { model: { name: 'blob', version: 1 }, results: names.map((name) => results[name]), timings } });
    });
    await open('#/predict', 'Predict');
    await choose(page, Object.keys(results).map(image));
    // The server says two milliseconds, and who waited waited for more than a second.
    await page.getByText(/^3 images by blob:1 in \d+\.\d\d s, [0-2]\.\d images\/s/).waitFor();
    await page.getByText('red 2 · blue 1 · without an answer 1', { exact: true }).waitFor();
    await page.getByRole('slider', { name: /^Abstain below/ }).fill('0.8');
    await page.getByText('red 1 · blue 1 · undecided 1 · without an answer 1', { exact: true }).waitFor();
    const shown = () => page.locator('.result:visible .file').allTextContents();
    for (const [kind, files] of [['red (1)', ['sure.png']], ['undecided (1)', ['unsure.png']], ['without an answer (1)', ['broken.png']], ['all (4)', Object.keys(results).map((name) => `${name}.png`)]]) {
      await field(page, 'Show').selectOption({ label: kind });
      assert.deepEqual(await shown(), files);
    }
    await field(page, 'Show').selectOption({ label: 'undecided (1)' });
    await page.getByRole('slider', { name: /^Abstain below/ }).fill('0.5');
    assert.deepEqual(await shown(), [], 'none is undecided any more');

    const saved = page.waitForEvent('download');
    await button(page, 'Download as CSV').click();
    const file = await saved;
    assert.equal(file.suggestedFilename(), 'predictions-blob.csv');
    assert.equal(await readFile(await file.path(), 'utf8'), [
      '\ufefffile,label,probability,red,blue,abstained,error', 'sure.png,red,0.97,0.97,0.03,false,', 'unsure.png,red,0.6,0.6,0.4,false,', 'other.png,blue,0.97,0.03,0.97,false,',
      'broken.png,,,,,,"no image, or ""none"""', '',
    ].join('\r\n'));
    await button(page, 'Clear').click();
    await button(page, 'Download as CSV').waitFor({ state: 'hidden' });
  });
});
