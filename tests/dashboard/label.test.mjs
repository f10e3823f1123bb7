// From photos without a label to a model, all in the browser: an archive is labelled, imported and learned from.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { MARK, parse } from '../../src/web/csv.js';
import { blob, csv, zip } from './drawn.mjs';
import { SHORT_RUN, button, cells, complaint, field, fillJob, goTo, title, tooWide } from './parts.mjs';
import { until, walk } from './walk.mjs';

const CLASSES = ['red', 'blue'];
const KEYS = { red: '1', blue: '2' };
const GOAL = 16;
/// The share of the test sheet that the form proposes.
const EVERY = 4;

const BROKEN = 'photos/broken.png';
/// Names and kinds of what can be labelled.
const PHOTOS = Array.from({ length: 60 }, (_, at) => [`${['', 'photos/', 'photos/of May/'][at % 3]}${at === 7 ? '7, at noon' : at}.png`, at % 2]);
const TRUTH = new Map(PHOTOS.map(([name, kind]) => [name, CLASSES[kind]]));

const drawn = (photos) => photos.map(([name, kind], at) => [name, blob(kind, at + 1)]);
const archive = (name, files) => ({ name, mimeType: 'application/zip', buffer: zip(files) });
const LITTER = [['photos/Thumbs.db', Buffer.from('what Windows leaves')], ['__MACOSX/photos/._1.png', Buffer.from('what macOS leaves')]];
const photos = archive('my photos.zip', [...drawn(PHOTOS).slice(0, 30), ...LITTER, [BROKEN, Buffer.from('this is no image')], ...drawn(PHOTOS).slice(30)]);

/// Draws the order that has the broken image and the name with a comma among the first.
const drawOrder = () => { crypto.getRandomValues = (numbers) => numbers.fill(4); };

const choose = (page, file) => page.getByLabel(/^Choose a ZIP of images/).setInputFiles(file);

/// The image that can be labelled now: its name, and the class that its pixels show.
const shown = (page) => until('an image is shown', () => page.getByRole('img', { name: /^Image to label: / }).evaluate((image) => {
  // One that was found may be gone by now, or about to go.
  if (!image.isConnected || image.closest('[aria-busy]')) return null;
  const context = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext('2d');
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
  let redder = 0;
  for (let at = 0; at < data.length; at += 4) redder += data[at] - data[at + 2];
  return { name: image.alt.replace(/^Image to label: /, ''), label: redder > 0 ? 'red' : 'blue' };
}));

const progress = (page) => page.getByText(/^[\d,]+ (of [\d,]+ )?for training/).innerText();

walk('labelling in the browser', {}, (step) => {
  /// What was decided of each image, in their order: its name and its class, null for none.
  const decided = [];
  const labelled = (sheet, of = CLASSES) => decided.filter(([, label], place) => of.includes(label) && (place % EVERY === EVERY - 1) === (sheet === 'test'));

  /// What the browser keeps from one step to the next.
  const profile = { storageState: undefined };
  const keep = async (page) => { profile.storageState = await page.context().storageState(); };

  const trained = () => labelled('train').length;
  const summary = () => [
    trained() > GOAL ? `${trained()} for training, ${GOAL} were wanted` : `${trained()} of ${GOAL} for training`, `${labelled('test').length} more for the test sheet`,
    ...CLASSES.map((label) => `${label} ${decided.filter((one) => one[1] === label).length}`), 'cannot tell 1',
  ].join(' · ');

  const passedBy = (page) => page.getByText(/^1 image cannot be shown by this browser/);

  /// Labels the image that is shown by the key of what it shows, or says that nobody can tell.
  async function decide(page, key) {
    const { name, label } = await shown(page);
    if (!decided.some((one) => one[0] === BROKEN) && await passedBy(page).isVisible()) decided.push([BROKEN, null]);
    await page.getByText(name, { exact: true }).waitFor();
    await page.keyboard.press(key ?? KEYS[label]);
    decided.push([name, key ? null : label]);
  }

  /// A data set's counts, as the labels and the archive have them.
  const counts = () => {
    const unlabelled = PHOTOS.length - trained() - labelled('test').length;
    return [...['blue', 'red'].map((label) => [label, `${labelled('train', [label]).length}`, `${labelled('test', [label]).length}`]), ['unlabelled', `${unlabelled}`, '–']];
  };

  step('the data sets’ page leads there, and the form says beside each field what is wrong', async ({ page, open }) => {
    await page.addInitScript(drawOrder);
    await open('#/datasets', 'Data sets');
    await page.getByRole('link', { name: 'Label images here' }).click();
    await title(page, 'Label images').waitFor();
    await choose(page, photos);
    await page.getByText('my photos.zip · 61 images to label').waitFor();
    await field(page, 'Classes').fill('red');
    await field(page, 'Labels for training').fill('12.000');
    await button(page, 'Start labelling').click();
    assert.match(await complaint(page, 'Labels for training'), /in digits alone/);
    await field(page, 'Labels for training').fill('62');
    await button(page, 'Start labelling').click();
    assert.match(await complaint(page, 'Classes'), /^Two classes at least/);
    assert.match(await complaint(page, 'Task'), /^A word of up to 64/);
    assert.match(await complaint(page, 'Labels for training'), /^A whole number from 1 to 61/);
    await field(page, 'Classes').fill('red\nblue, red');
    await field(page, 'Task').fill('colour');
    await field(page, 'Labels for training').fill(`${GOAL}`);
    await button(page, 'Start labelling').click();
    assert.match(await complaint(page, 'Classes'), /^“red” is there twice/);
    for (const name of ['Task', 'Labels for training']) assert.equal(await field(page, name).getAttribute('aria-invalid'), null, `${name} is right now`);
    await field(page, 'Classes').fill(CLASSES.join('\n'));
    await button(page, 'Start labelling').click();
    await shown(page);
    assert.equal(await button(page, 'Import as a data set').isDisabled(), true, 'nothing is labelled');
    await keep(page);
  }, profile);

  step('images are labelled by keys; what is taken back is asked again, and a reload loses nothing', async ({ page, open }) => {
    await open('#/label', 'Label images');
    await choose(page, photos);
    await decide(page);
    await decide(page);
    await decide(page, 'Space');
    while (decided.length < 10) await decide(page);
    // The broken image comes after the one that is taken back, and is passed by twice.
    const last = await shown(page);
    await page.keyboard.press(KEYS[last.label === 'red' ? 'blue' : 'red']);
    assert.notEqual((await shown(page)).name, last.name);
    await passedBy(page).waitFor();
    await page.keyboard.press('Backspace');
    assert.deepEqual(await shown(page), last);
    assert.equal(await passedBy(page).count(), 0);
    while (decided.length < 14) await decide(page);
    assert.deepEqual(decided[11], [BROKEN, null], 'the order is another: drawOrder wants another seed');

    const next = await shown(page);
    assert.equal(await progress(page), summary());
    await page.reload();
    await title(page, 'Label images').waitFor();
    await choose(page, photos);
    await page.getByText(`Labelling goes on where it was: ${trained() + labelled('test').length} labels were there.`).waitFor();
    assert.deepEqual(await shown(page), next);
    assert.equal(await progress(page), summary());

    const reached = page.getByText(/^The goal is reached/);
    while (trained() < GOAL) {
      assert.equal(await reached.count(), 0);
      await decide(page);
    }
    await reached.waitFor();
    assert.equal(await progress(page), summary());
    await keep(page);
  }, profile);

  step('the sheets say what was pressed, and become a data set with all other images as unlabelled', async ({ page, open }) => {
    for (const [name, label] of decided) if (label) assert.equal(label, TRUTH.get(name), `the image that was shown as ${name}`);
    assert.ok(labelled('train').concat(labelled('test')).some(([name]) => name.includes(',')), 'a name with a comma is among them');
    await open('#/label', 'Label images');
    await choose(page, photos);
    await shown(page);
    await page.getByText('-F unlisted=unlabelled', { exact: true }).waitFor();
    for (const sheet of ['train', 'test']) {
      const saved = page.waitForEvent('download');
      await button(page, `Download ${sheet}.csv`).click();
      const download = await saved;
      assert.equal(download.suggestedFilename(), `${sheet}.csv`);
      const expected = `${MARK}${csv([['image', 'label'], ...labelled(sheet)])}`.replaceAll('\n', '\r\n');
      assert.equal(await readFile(await download.path(), 'utf8'), expected);
    }

    await button(page, 'Import as a data set').click();
    await title(page, 'my-photos').waitFor();
    await page.getByText(/^Task colour · 60 images · /).waitFor();
    assert.deepEqual(await cells(page, 'Images per class and split'), counts());
    const unlisted = page.getByText(/^unlisted_images /);
    assert.match(await unlisted.innerText(), new RegExp(`^unlisted_images ${counts().at(-1)[1]} images that no row names are learned from without a label`));
    assert.equal(await page.getByText(/^unnamed_files /).count(), 0, 'what file managers leave is no file of anybody’s');
    await page.getByRole('heading', { name: '1 row left out' }).waitFor();
    const [row, ...others] = await cells(page, 'Rows that were left out');
    assert.deepEqual([row[0], row[2], others], ['archive', BROKEN, []]);
    assert.match(row[3], /this is no image format/);
  }, profile);

  step('another import has another name, and one that is taken is told beside its field before anything is sent', async ({ page, open, expects }) => {
    await open('#/label', 'Label images');
    await choose(page, photos);
    const next = await shown(page);
    await until('a name that is not taken is proposed', async () => (await field(page, 'Name').inputValue()) === 'my-photos-2');
    await field(page, 'Name').fill('my-photos');
    assert.match(await complaint(page, 'Name'), /^There is a data set of this name: take another one, such as my-photos-2$/);
    await button(page, 'Import as a data set').click();
    assert.equal(await complaint(page, 'Name'), 'There is a data set of this name: take another one, such as my-photos-2');
    assert.equal(await field(page, 'Name').evaluate((node) => node === document.activeElement), true);
    // One that came since is told by the server.
    await page.unrouteAll();
    await page.route('**/datasets?*', (route) => route.fulfill({ json: { items: [], next_cursor: null } }));
    await page.reload();
    await choose(page, photos);
    await shown(page);
    expects(409, '/datasets');
    await button(page, 'Import as a data set').click();
    assert.match(await complaint(page, 'Name'), /^"my-photos" is taken/);
    await page.unrouteAll();
    assert.deepEqual([await shown(page), await progress(page)], [next, summary()]);

    // Other pages may be looked at meanwhile, where keys label nothing.
    await goTo(page, 'Data sets');
    await page.keyboard.press('1');
    await page.getByRole('link', { name: 'Label images here' }).click();
    assert.deepEqual([await shown(page), await progress(page)], [next, summary()]);
    await decide(page);
    await decide(page);
    await shown(page);
    assert.equal(await progress(page), summary());
    await field(page, 'Name').fill('more-photos');
    await button(page, 'Import as a data set').click();
    await title(page, 'more-photos').waitFor();
    assert.deepEqual(await cells(page, 'Images per class and split'), counts());
    await keep(page);
  }, profile);

  step('a model learns from it', async ({ page, open }) => {
    await open('#/datasets/my-photos', 'my-photos');
    await page.getByRole('link', { name: 'Train on it' }).click();
    await title(page, 'New job').waitFor();
    await page.getByText(`Of ${GOAL} labelled training images`).waitFor();
    await fillJob(page, { Preset: 'quick', 'Compare with the supervised baseline': false, 'More hyper-parameters': SHORT_RUN });
    await button(page, 'Queue the job').click();
    await title(page, 'MixMatch on my-photos succeeded').waitFor();
    await page.getByText('Published', { exact: true }).waitFor();
    const figures = await cells(page, 'Precision, recall and F1 per class');
    assert.deepEqual(figures.map(([label]) => label), ['blue', 'red']);
    await goTo(page, 'Models');
    await page.getByText('Classes: blue, red').waitFor();
    const saved = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Predictions version 1 of colour', exact: true }).click();
    const download = await saved;
    assert.equal(download.suggestedFilename(), 'colour-1.csv');
    const predicted = (await readFile(await download.path(), 'utf8')).trimEnd().split('\n');
    assert.equal(predicted.length, 1 + PHOTOS.length);
  });

  step('what the model is least sure of comes first where that is wanted, and is marked in the sheet', async ({ base, page, open }) => {
    const list = parse(await (await fetch(`${base}/models/colour/versions/1/predictions?rows=unlabelled`)).text()).map(({ image }) => image);
    const left = list.filter((name) => !decided.some((one) => one[0] === name));
    assert.ok(left.length > 20 && left.length < list.length, 'some have got their labels since');
    await open('#/label', 'Label images');
    await choose(page, photos);
    const drawn = await shown(page);
    await page.getByText('Which images come next').click();
    await field(page, 'Model').selectOption('colour:1');
    await button(page, 'Show what it is least sure of').click();
    const first = await until('the first of the list is shown', async () => {
      const image = await shown(page);
      return image.name === left[0] && image;
    });
    await page.keyboard.press(KEYS[first.label]);
    const second = await until('the second is shown', async () => {
      const image = await shown(page);
      return image.name === left[1] && image;
    });
    await page.keyboard.press(KEYS[second.label]);
    await page.getByText(new RegExp(`^2 of a batch of ${left.length}, least sure first, by colour, version 1 · .* · 2 picked · `)).waitFor();

    // A reload goes on in the list, and the way back leads to where the random order was.
    await page.reload();
    await title(page, 'Label images').waitFor();
    await choose(page, photos);
    assert.equal((await shown(page)).name, left[2]);
    await page.getByText('Which images come next: least sure first, by colour, version 1').waitFor();
    assert.equal(await field(page, 'Model').inputValue(), 'colour:1');
    assert.equal(await page.getByText(/there is a newer one/).count(), 0);

    // A newer version is offered, and orders what is left.
    await page.route('**/models?*', async (route) => {
      const response = await route.fetch();
      const list = await response.json();
      const [{ versions }] = list.items;
      versions.unshift({ ...versions[0], version: 2 });
      await route.fulfill({ response, json: list });
    });
    await page.route('**/models/colour/versions/2/predictions?*', (route) => route.fulfill({ contentType: 'text/csv', body: csv([['image'], [left[1]], [left[4]], [left[3]]]).toString() }));
    await page.reload();
    await title(page, 'Label images').waitFor();
    await choose(page, photos);
    await page.getByText('The images are in the order of colour, version 1, and there is a newer one, colour, version 2: it is unsure of others.').waitFor();
    assert.equal(await field(page, 'Model').inputValue(), 'colour:2');
    await button(page, 'Order them anew').click();
    await page.getByText(/^0 of a batch of 2, least sure first, by colour, version 2 · .* · 2 picked · /).waitFor();
    await until('the first of the new list is shown', async () => (await shown(page)).name === left[4]);
    await page.keyboard.press('0');
    await until('the second is', async () => (await shown(page)).name === left[3]);
    assert.equal(await page.getByText(/^A batch is labelled/).count(), 0);
    await page.keyboard.press('0');
    await page.getByText(/^A batch is labelled: import the labels below and train again/).waitFor();
    await button(page, 'Go back to the random order').click();
    await until('the random order is back', async () => (await shown(page)).name === drawn.name);

    const saved = page.waitForEvent('download');
    await button(page, 'Download train.csv').click();
    const sheet = await readFile(await (await saved).path(), 'utf8');
    const marked = parse(sheet).filter(({ picked }) => picked === 'yes').map(({ image, label }) => [image, label]);
    assert.deepEqual(marked, [first, second].map(({ name, label }) => [name, label]));
    await field(page, 'Name').fill('picked-photos');
    await button(page, 'Import as a data set').click();
    await title(page, 'picked-photos').waitFor();
    await page.getByText('2 training labels picked, not drawn: for training, not for validation.').waitFor();
  }, profile);

  step('the keyboard alone is enough', async ({ page, open }) => {
    /// Goes on by Tab until this has the focus.
    const tabTo = async (target) => {
      const reached = () => target.evaluate((node) => node === document.activeElement);
      for (let times = 0; times < 50; times += 1) {
        if (await reached()) return;
        await page.keyboard.press('Tab');
      }
      assert.fail(`Tab does not lead to ${target}`);
    };
    const { keyboard } = page;
    page.on('filechooser', (chooser) => chooser.setFiles(archive('few.zip', drawn(PHOTOS.slice(0, 12)))));
    await open('#/datasets', 'Data sets');
    await tabTo(page.getByRole('link', { name: 'Label images here' }));
    await keyboard.press('Enter');
    await title(page, 'Label images').waitFor();
    await tabTo(page.getByLabel(/^Choose a ZIP of images/));
    await keyboard.press('Enter');
    await page.getByText('few.zip · 12 images to label').waitFor();
    // It has the focus by itself.
    await keyboard.type('first, second');
    await tabTo(field(page, 'Task'));
    await keyboard.type('few');
    await keyboard.press('Enter');

    const press = async (...keys) => {
      for (const key of keys) {
        await shown(page);
        await keyboard.press(key);
      }
    };
    const tells = async (text) => {
      await shown(page);
      assert.equal(await progress(page), text);
    };
    await press('1', '2', '2', '0', 'Space', '1', 'ArrowLeft', 'Backspace');
    await tells('3 of 12 for training · 0 more for the test sheet · first 1 · second 2 · cannot tell 1');
    // On a button the space bar is the button's.
    await tabTo(page.getByRole('group', { name: /^Class of the image/ }).getByRole('button', { name: 'second' }));
    await press('Space', 'Enter');
    await tells('5 of 12 for training · 0 more for the test sheet · first 1 · second 4 · cannot tell 1');
    // Held down it labels one.
    await keyboard.down('1');
    await shown(page);
    await keyboard.down('1');
    await keyboard.up('1');
    await tells('6 of 12 for training · 0 more for the test sheet · first 2 · second 4 · cannot tell 1');
    await press('1');
    await tells('6 of 12 for training · 1 more for the test sheet · first 3 · second 4 · cannot tell 1');
    // So does a button, and Undo takes back one.
    const hold = async (name, key) => {
      await tabTo(page.getByRole('button', { name }));
      for (let times = 0; times < 3; times += 1) {
        await shown(page);
        await keyboard.down(key);
      }
      await keyboard.up(key);
    };
    await hold(/^second/, 'Enter');
    await tells('7 of 12 for training · 1 more for the test sheet · first 3 · second 5 · cannot tell 1');
    await hold(/^Cannot tell/, 'Space');
    await tells('7 of 12 for training · 1 more for the test sheet · first 3 · second 5 · cannot tell 2');
    await hold(/^Undo/, 'Enter');
    await hold(/^Undo/, 'Enter');
    await tells('6 of 12 for training · 1 more for the test sheet · first 3 · second 4 · cannot tell 1');
    // Written into a field, a digit is a digit.
    await tabTo(field(page, 'Name'));
    await keyboard.press('End');
    await keyboard.type('12');
    await tabTo(button(page, 'Import as a data set'));
    await keyboard.press('Enter');
    await title(page, 'few12').waitFor();
    assert.deepEqual(await cells(page, 'Images per class and split'), [['first', '2', '1'], ['second', '4', '0'], ['unlabelled', '5', '–']]);
  });

  step('an archive beyond what the server takes is told of before anybody labels it', async ({ page, open }) => {
    await page.route('**/readyz', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), max_upload: 1000 } });
    });
    await open('#/label', 'Label images');
    await choose(page, photos);
    await page.getByText(/^The archive has .* this server takes 1000 B in one upload: .* The sheets can be made here all the same\.$/).waitFor();
    await open('#/datasets', 'Data sets');
    await field(page, 'Images').setInputFiles(photos);
    assert.match(await complaint(page, 'Images'), /takes 1000 B in one upload/);
    await page.unroute('**/readyz');
    await field(page, 'Images').setInputFiles(photos);
    await until('it is taken back', async () => (await field(page, 'Images').getAttribute('aria-invalid')) === null);
  });

  /// The form's way to the first image.
  async function begin(page, open, name, files, classes) {
    await open('#/label', 'Label images');
    await choose(page, archive(name, files));
    await field(page, 'Classes').fill(classes.join('\n'));
    await field(page, 'Task').fill('few');
    await button(page, 'Start labelling').click();
  }

  step('a class that is a digit has that key, also where a keyboard wants Shift for digits', async ({ page, open }) => {
    await begin(page, open, 'digits.zip', drawn(PHOTOS.slice(0, 12)), ['0', '1']);
    const counted = async (text) => until(text, async () => {
      await shown(page);
      return (await progress(page)).endsWith(text);
    });
    for (const key of ['1', '0', '1', '2', '1']) {
      await shown(page);
      await page.keyboard.press(key);
    }
    await counted(' · 0 1 · 1 3');
    const french = (key, code, more) => page.evaluate(([init]) => document.dispatchEvent(new KeyboardEvent('keydown', { ...init, bubbles: true })), [{ key, code, ...more }]);
    await page.evaluate(() => document.addEventListener('keydown', (event) => Object.defineProperty(event, 'target', { value: document.body }), { capture: true }));
    await french('&', 'Digit1');
    await counted(' · 0 1 · 1 4');
    await french('à', 'Digit0');
    await counted(' · 0 2 · 1 4');
    await french('1', 'Digit1', { shiftKey: true });
    await counted(' · 0 2 · 1 5');
    await french('@', 'Digit0', { modifierAltGraph: true });
    await page.keyboard.press('Space');
    await counted(' · 0 2 · 1 5 · cannot tell 1');
    const keys = (name) => page.getByRole('button', { name, exact: true }).evaluate((node) => [node.getAttribute('aria-keyshortcuts'), node.querySelector('kbd').textContent]);
    assert.deepEqual([await keys('0'), await keys('1'), await keys('Cannot tell')], [['0', '0'], ['1', '1'], ['Space', 'Space']]);
  });

  step('a photo that is too large to be decoded ahead is shown all the same, and one that is cut off is not', async ({ page, open }) => {
    await page.addInitScript(() => { HTMLImageElement.prototype.decode = () => Promise.reject(new DOMException('The source image cannot be decoded.', 'EncodingError')); });
    const whole = drawn(PHOTOS.slice(0, 3));
    await begin(page, open, 'large.zip', [...whole, ['cut.png', blob(0, 9).subarray(0, 1500)]], CLASSES);
    for (const _ of whole) await page.keyboard.press(KEYS[(await shown(page)).label]);
    await page.getByText('These were all images of the archive.').waitFor();
    await page.getByText(/^1 image cannot be shown by this browser, .* The last one: cut\.png/).waitFor();
    await button(page, 'Review').click();
    await page.locator('.label-thumbs button').first().click();
    await page.locator('.label-frame:not([aria-busy]) img').waitFor();
  });

  step('an image beyond what the server takes is passed by, and a key that may not import is told of before', async ({ page, open, expects }) => {
    await page.route('**/readyz', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), max_pixels: 1000 } });
    });
    expects(403, '/datasets');
    await page.route('**/datasets?*', (route) => route.fulfill({ status: 403, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Forbidden', status: 403, detail: 'this needs a key of scope train', errors: [] }) }));
    await begin(page, open, 'wide.zip', drawn(PHOTOS.slice(0, 2)), CLASSES);
    await page.getByText(/^2 images cannot be shown by this browser, or imported by this server: .*32 × 32 pixels, and this server takes 1000: start it with a larger --max-pixels/).waitFor();
    await page.getByText(/^This server would not import the labels: this needs a key of scope train\./).waitFor();
  });

  step('it fits on 360 pixels and is dark, with long names', async ({ page, open }) => {
    const long = 'a'.repeat(120);
    const fits = async (what) => assert.deepEqual(await page.evaluate(tooWide), [], `${what} is wider than the window`);
    await open('#/label', 'Label images');
    await choose(page, archive(`${long}.zip`, drawn([[`${long}/1.png`, 0], [`${long}/2.png`, 1], [`${long}.png`, 0]])));
    await field(page, 'Classes').fill(`${long}\n${'b'.repeat(120)}`);
    await fits('the form');
    await field(page, 'Task').fill('long');
    await button(page, 'Start labelling').click();
    await shown(page);
    await fits('the page with an image');
    assert.ok(await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).every((part) => part < 128)), 'its ground is dark');
    for (const key of ['1', '2']) {
      await page.keyboard.press(key);
      await shown(page);
    }
    await page.keyboard.press('1');
    await page.getByText('These were all images of the archive.').waitFor();
    await fits('its end');
    await button(page, 'Review').click();
    await page.locator('.label-thumbs canvas').first().waitFor();
    await fits('the review');
    await page.locator('.label-thumbs button').first().click();
    await page.locator('.label-frame:not([aria-busy]) img').waitFor();
    await fits('an image of the review');
    await page.reload();
    await page.getByText('Labels that this browser keeps').waitFor();
    await fits('the list of what is kept');
    await choose(page, archive(`${long}-again.zip`, drawn([[`${long}/1.png`, 0], [`${long}/2.png`, 1], [`${long}.png`, 0], [`1.x${long}`, 0], ['4.png', 1]])));
    await button(page, `Take the labels of ${long}.zip over`).waitFor();
    await fits('what can be taken over');
  }, { colorScheme: 'dark', viewport: { width: 360, height: 740 } });
});
