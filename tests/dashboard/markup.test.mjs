// Names that are markup: of classes, groups, columns and files. Every page shows them as the text that they are.

import assert from 'node:assert/strict';

import { blob, drawnSet } from './drawn.mjs';
import { SHORT_RUN, button, cells, fillJob, goTo, importSet, title } from './parts.mjs';
import { until, walk } from './walk.mjs';

const MARKUP = '<img src=x onerror=window.hit=1>';

walk('names that are markup', {}, (step) => {
  let job;

  /// Nothing on the page has become an element, and no script of it has run.
  async function isText(page) {
    assert.equal(await page.locator('[onerror], img[src="x"]').count(), 0, 'a name became an element');
    assert.equal(await page.evaluate(() => window.hit), undefined, 'a name became a script');
  }

  step('in a data set and its report', async ({ page, open }) => {
    await open('#/datasets', 'Data sets');
    const name = (stem) => `${MARKUP}${stem}.png`;
    const set = drawnSet({ classes: [MARKUP, 'plain'], column: MARKUP, sources: [MARKUP, 'camera'], name, more: [[name('gone'), 'plain', 'camera']] });
    await importSet(page, { name: 'markup', task: 'markup', set });
    await title(page, 'markup').waitFor();
    const [row] = await cells(page, 'Rows that were left out');
    assert.equal(row[2], name('gone'));
    const classes = await cells(page, 'Images per class and split');
    assert.deepEqual(classes.map(([word]) => word), [MARKUP, 'plain', 'unlabelled']);
    await isText(page);
    await goTo(page, 'Data sets');
    await page.getByText(MARKUP).first().waitFor();
    await isText(page);
  });

  step('in a job and its figures', async ({ page, open }) => {
    await open('#/jobs/new', 'New job');
    await page.getByText('markup (markup)').waitFor({ state: 'attached' });
    await fillJob(page, { Labels: '40', 'Compare with the supervised baseline': false, 'More hyper-parameters': SHORT_RUN });
    await button(page, 'Queue the job').click();
    await title(page, 'MixMatch on markup succeeded').waitFor();
    job = new URL(page.url()).hash;
    await page.getByRole('button', { name: `share ${MARKUP}` }).first().waitFor();
    const classes = await cells(page, 'Precision, recall and F1 per class');
    assert.deepEqual(classes.map(([word]) => word), [MARKUP, 'plain']);
    const groups = await cells(page, 'Accuracy by group');
    assert.deepEqual(groups.map((row) => row.slice(0, 2)), [[MARKUP, MARKUP], [MARKUP, 'camera']]);
    await isText(page);
    await open(`#/compare?ids=${job.split('/').at(-1)}`, 'Compare');
    await isText(page);
  });

  step('in a model and its predictions', async ({ page, open }) => {
    await open('', 'Overview');
    await page.getByText(`${MARKUP}, plain`).waitFor();
    await isText(page);
    await goTo(page, 'Models');
    await page.getByText(`Classes: ${MARKUP}, plain`).waitFor();
    await isText(page);
    await goTo(page, 'Predict');
    await page.getByLabel(/^Choose images/).setInputFiles([{ name: `${MARKUP}.png`, mimeType: 'image/png', buffer: blob(0, 9001) }]);
    const result = page.getByRole('listitem').filter({ has: page.getByText(`${MARKUP}.png`, { exact: true }) });
    await until('the class is the answer', async () => (await result.first().innerText()).includes(`\n${MARKUP} `));
    await isText(page);
  });

  step('in an address', async ({ page, open, expects }) => {
    await open(`#/${MARKUP}`, 'Nothing here');
    await isText(page);
    expects(404, `/datasets/${encodeURIComponent(MARKUP)}`);
    await open(`#/datasets/${encodeURIComponent(MARKUP)}`, 'This could not be shown');
    await isText(page);
  });
});
