// Labels are found again: of a ZIP that has another name, that was packed anew with more in it, and from sheets.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { parse } from '../../src/web/csv.js';
import { blob, zip } from './drawn.mjs';
import { button, complaint, field, focused } from './parts.mjs';
import { until, walk } from './walk.mjs';

const PHOTOS = Array.from({ length: 12 }, (_, at) => [`${at}.png`, blob(at % 2, at + 1)]);
const archive = (name, files = PHOTOS) => ({ name, mimeType: 'application/zip', buffer: zip(files) });
/// As a file manager would pack them later: in a folder, in another order, and others too.
const ANEW = archive('faces again.zip', [...PHOTOS, [`12.png`, blob(0, 13)], ['13.png', blob(1, 14)]].reverse().map(([name, bytes]) => [`faces/${name}`, bytes]));

const choose = (page, file) => page.getByLabel(/^Choose a ZIP of images/).setInputFiles(file);
const progress = (page) => page.getByText(/^[\d,]+ (of [\d,]+ )?for training/).innerText();
const sheet = (text) => parse(text).map(({ image, label }) => `${image.replace('faces/', '')} ${label}`).sort();

async function settings(page, goal) {
  await field(page, 'Task').fill('colour');
  await field(page, 'Labels for training').fill(goal);
}

async function saved(page, name) {
  const saving = page.waitForEvent('download');
  await button(page, `Download ${name}.csv`).click();
  return readFile(await (await saving).path(), 'utf8');
}

async function press(page, keys) {
  for (const key of keys) {
    await page.locator('.label-frame:not([aria-busy]) img').waitFor();
    await page.keyboard.press(key);
  }
}

walk('labels are found again', {}, (step) => {
  const profile = { storageState: undefined };
  const keep = async (page) => { profile.storageState = await page.context().storageState(); };
  let made;

  step('of a ZIP that has another name by now, and of one whose labels an earlier version kept', async ({ page, open }) => {
    await open('#/label', 'Label images');
    await choose(page, archive('faces.zip'));
    await field(page, 'Classes').fill('red, blue');
    await settings(page, '10');
    await button(page, 'Start labelling').click();
    await press(page, '12021');
    made = { train: await saved(page, 'train'), test: await saved(page, 'test') };
    const before = '3 of 10 for training · 1 more for the test sheet · red 2 · blue 2 · cannot tell 1';
    assert.equal(await progress(page), before);
    // As it was kept before, and nothing else.
    await page.evaluate((size) => {
      const [key] = Object.keys(localStorage).filter((one) => one.startsWith('mixmatch.labels.'));
      const { file, at, labels, taken, ...value } = JSON.parse(localStorage.getItem(key));
      const old = `mixmatch.labels.${JSON.stringify([file, size, ...JSON.parse(key.slice('mixmatch.labels.'.length))])}`;
      localStorage.removeItem(key);
      localStorage.setItem(old, JSON.stringify(value));
    }, archive('faces.zip').buffer.length);
    await page.reload();
    await page.getByText('faces.zip: 4 of 12 images labelled, task colour', { exact: true }).waitFor();
    await choose(page, archive('renamed.zip'));
    await page.getByText('Labelling goes on where it was: 4 labels were there.').waitFor();
    assert.equal(await progress(page), before);
    await keep(page);
  }, profile);

  step('of one that was packed anew with others in it, by their names and contents', async ({ page, open }) => {
    await open('#/label', 'Label images');
    await page.getByText(/^renamed\.zip: 4 of 12 images labelled, task colour, \d\d:\d\d$/).waitFor();
    const changed = PHOTOS.map(([name], at) => [name, blob(at % 2, at + 100)]);
    await choose(page, archive('others.zip', changed));
    await page.getByText('others.zip · 12 images to label').waitFor();
    assert.equal(await button(page, 'Take the labels of renamed.zip over').count(), 0, 'these are other pictures');
    await button(page, 'Cancel').click();
    await choose(page, ANEW);
    await page.getByText(/^4 of the 4 labels of renamed\.zip \(task colour, .*\) are of images in this ZIP: 3 for training, 1 for the test sheet\.$/).waitFor();
    await button(page, 'Take the labels of renamed.zip over').click();
    assert.equal(await progress(page), '3 of 10 for training · 1 more for the test sheet · red 2 · blue 2 · cannot tell 1');
    for (const name of ['train', 'test']) assert.deepEqual(sheet(await saved(page, name)), sheet(made[name]), name);
    // All others come, and none of them twice.
    await press(page, '111111111');
    await page.getByText('These were all images of the archive.').waitFor();
    const all = [...sheet(await saved(page, 'train')), ...sheet(await saved(page, 'test'))].map((line) => line.split(' ')[0]);
    assert.deepEqual([all.length, new Set(all).size], [13, 13]);
    await page.reload();
    await page.getByText(/^faces again\.zip: 13 of 14 images labelled/).waitFor();
    await page.getByText(/^renamed\.zip: 4 of 12 images labelled/).waitFor();
    await choose(page, archive('faces.zip'));
    await page.getByText('Labelling goes on where it was: 4 labels were there.').waitFor();
    await keep(page);
  }, profile);

  step('and are forgotten one by one, but for those of the archive that is open', async ({ page, open }) => {
    await open('#/label', 'Label images');
    await choose(page, archive('faces.zip'));
    await page.getByText('Labelling goes on where it was: 4 labels were there.').waitFor();
    await button(page, 'Another ZIP').click();
    const list = page.getByRole('listitem').filter({ hasText: 'images labelled' });
    await until('both are listed', async () => (await list.count()) === 2);
    assert.equal(await button(page, 'Forget of renamed.zip').count(), 0);
    await page.reload();
    await button(page, 'Forget of renamed.zip').waitFor();
    await button(page, 'Forget of faces again.zip').press('Enter');
    assert.equal(await list.count(), 2, 'it asks first');
    await button(page, 'Forget these labels? of faces again.zip').press('Enter');
    await until('one is gone', async () => (await list.count()) === 1);
    assert.equal(await focused(page), 'the page');
    await button(page, 'Forget of renamed.zip').click();
    await button(page, 'Forget these labels? of renamed.zip').click();
    await page.getByText('Labels that this browser keeps').waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => localStorage.length), 0);
  }, profile);

  step('from the sheets that were downloaded', async ({ page, open }) => {
    const csv = (name, text) => ({ name, mimeType: 'text/csv', buffer: Buffer.from(text) });
    await open('#/label', 'Label images');
    assert.equal(await page.getByText('Labels that this browser keeps').count(), 0);
    await choose(page, ANEW);
    await page.getByText('Go on from sheets that you downloaded').click();
    await field(page, 'Training sheet').setInputFiles(csv('train.csv', 'name;kind\na;b\n'));
    await page.getByText(/^It has no columns “image” and “label”/).waitFor();
    const german = made.train.replaceAll('red', 'männlich');
    await field(page, 'Training sheet').setInputFiles({ ...csv('train.csv', ''), buffer: Buffer.from(german, 'latin1') });
    assert.equal(await complaint(page, 'Training sheet'), 'It is not in UTF-8: save it as “CSV UTF-8”');
    assert.equal(await field(page, 'Classes').inputValue(), '');
    await field(page, 'Training sheet').setInputFiles({ ...csv('train.csv', ''), buffer: Buffer.from(`${made.train.replaceAll(',', '\t')}`, 'utf16le') });
    await page.getByText('3 labels will be taken over: 3 for training.').waitFor();
    await field(page, 'Training sheet').setInputFiles(csv('train.csv', `${made.train}not-there.png,red\r\n`));
    await field(page, 'Test sheet').setInputFiles(csv('test (1).csv', made.test));
    await page.getByText('4 labels will be taken over: 3 for training, 1 for the test sheet.').waitFor();
    await page.getByText(/^1 more row names no image of this ZIP/).waitFor();
    assert.deepEqual((await field(page, 'Classes').inputValue()).split('\n').sort(), ['blue', 'red']);
    await field(page, 'Classes').fill('blue\ngreen');
    await settings(page, '10');
    await button(page, 'Start labelling').click();
    await page.getByText(/^“red” has labels in the sheets/).waitFor();
    await field(page, 'Classes').fill('blue\ngreen\nred');
    await button(page, 'Start labelling').click();
    assert.equal(await progress(page), '3 of 10 for training · 1 more for the test sheet · blue 2 · green 0 · red 2');
    for (const name of ['train', 'test']) assert.deepEqual(sheet(await saved(page, name)), sheet(made[name]), name);
    await press(page, '33');
    await until('they count', async () => (await progress(page)).startsWith('5 of 10'));
  });

  step('files that are not used are told of at once', async ({ page, open }) => {
    await open('#/label', 'Label images');
    const litter = [['__MACOSX/._1.png', Buffer.from('x')], ['.DS_Store', Buffer.from('x')]];
    const phone = ['IMG_1.HEIC', 'IMG_2.heic', 'IMG_3.MOV'].map((name) => [name, Buffer.from('x')]);
    await choose(page, archive('phone.zip', [...phone, ...litter]));
    await page.getByRole('alert').getByText(/There is no JPEG, PNG or WebP file .* 3 files of the ZIP are not used: 2 \.heic, 1 \.mov\. .* export/).waitFor();
    await choose(page, archive('phone.zip', [...phone, ...litter, ...PHOTOS]));
    await page.getByText('phone.zip · 12 images to label').waitFor();
    await page.getByText(/^3 files of the ZIP are not used: 2 \.heic, 1 \.mov\. Only JPEG, PNG and WebP are/).waitFor();
    await button(page, 'Cancel').click();
    await choose(page, archive('clean.zip', [...litter, ...PHOTOS]));
    await page.getByText('clean.zip · 12 images to label').waitFor();
    assert.equal(await page.getByText(/not used/).count(), 0);
  });
});

walk('labels are mended', {}, (step) => {
  const last = (page, text) => page.getByText(text, { exact: true }).waitFor();
  const image = (page) => page.locator('.label-frame:not([aria-busy]) img').getAttribute('alt').then((text) => text.replace('Image to label: ', ''));

  step('one far back is found by its picture, and is for what it was; a class may be renamed', async ({ page, open }) => {
    await open('#/label', 'Label images');
    await choose(page, archive('faces.zip', Array.from({ length: 70 }, (_, at) => [`${at}.png`, blob(at % 2, at + 1)])));
    await field(page, 'Classes').fill('red, bleu');
    await settings(page, '60');
    await button(page, 'Start labelling').click();
    const given = [];
    // Every fourth is for the test, and all are called red.
    for (let at = 0; at < 64; at += 1) {
      given.push(await image(page));
      await press(page, '1');
      await last(page, `${given.at(-1)}: red`);
    }
    await button(page, 'Review').click();
    const thumbs = page.locator('.label-thumbs button');
    await page.getByText('1 to 60 of 64').waitFor();
    await until('all pictures are there', async () => (await page.locator('.label-thumbs canvas').count()) === 60);
    await button(page, 'Next').click();
    await page.getByText('61 to 64 of 64').waitFor();
    assert.equal(await thumbs.count(), 4);
    // The first that was labelled is the last of them, and the fourth is for the test. By keys alone.
    const names = await thumbs.locator('.file').allInnerTexts();
    assert.deepEqual(names, given.slice(0, 4).reverse());
    assert.match(await thumbs.first().innerText(), /test sheet/);
    assert.equal(await thumbs.first().evaluate((node) => node === document.activeElement), true, 'the page that was asked for has the focus');
    await page.keyboard.press('Enter');
    await page.getByText('So far: red, test sheet. What it is for stays.').waitFor();
    await page.locator('.label-frame:not([aria-busy]) img').waitFor();
    await page.keyboard.press('Escape');
    await page.getByText('61 to 64 of 64').waitFor();
    await page.keyboard.press('Enter');
    await button(page, 'bleu').click();
    await page.getByText('61 to 63 of 63').waitFor();
    assert.equal(await thumbs.first().evaluate((node) => node === document.activeElement), true, 'the next one has the focus');
    await field(page, 'Class').selectOption('bleu (1)');
    await page.getByText('63 of').waitFor({ state: 'detached' });
    assert.deepEqual(await thumbs.locator('.file').allInnerTexts(), [given[3]]);
    await button(page, 'Back to labelling').click();
    const after = '48 of 60 for training · 16 more for the test sheet · red 63 · bleu 1';
    assert.equal(await progress(page), after);

    await button(page, 'Settings').click();
    await field(page, 'Classes').fill('red\nblue');
    await button(page, 'Go on labelling').click();
    await page.getByText('“bleu” is called “blue” now, and its labels are too.').waitFor();
    assert.equal(await progress(page), after.replace('bleu', 'blue'));
    assert.ok((await saved(page, 'test')).includes(`${given[3]},blue\r\n`));
    await page.reload();
    await choose(page, archive('faces.zip', Array.from({ length: 70 }, (_, at) => [`${at}.png`, blob(at % 2, at + 1)])));
    assert.equal(await progress(page), after.replace('bleu', 'blue'));
  });

  step('when labelling begins all buttons are in the window', async ({ page, open }) => {
    await open('#/label', 'Label images');
    await choose(page, archive('faces.zip'));
    await field(page, 'Classes').fill('red, blue');
    await settings(page, '10');
    await button(page, 'Start labelling').click();
    await page.locator('.label-frame:not([aria-busy]) img').waitFor();
    const { bottom, height } = await page.getByRole('button', { name: /^Undo/ }).evaluate((node) => ({ bottom: node.getBoundingClientRect().bottom, height: innerHeight }));
    assert.ok(bottom <= height, `Undo ends at ${bottom} of ${height} pixels`);
  }, { viewport: { width: 1280, height: 800 } });
});
