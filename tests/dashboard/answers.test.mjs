// A server whose answers are lost, or never come.

import assert from 'node:assert/strict';

import { drawnSet } from './drawn.mjs';
import { SMALL_STEPS, button, complaint, field, fillJob, goTo, importSet, title } from './parts.mjs';
import { until, walk } from './walk.mjs';

/// Loses the answer to the next `POST` there, which the server has carried out.
const lose = (page, path) => page.route(`**${path}`, async (route) => {
  if (route.request().method() !== 'POST') return route.fallback();
  await route.fetch();
  return route.abort('connectionreset');
}, { times: 1 });

const listed = async (page, base, path) => (await (await page.request.get(`${base}${path}`)).json()).items;

walk('answers', {}, (step) => {
  step('a data set whose answer was lost is there once, and its page is reached', async ({ base, page, open, expects }) => {
    expects('ERR_CONNECTION_RESET', '/datasets');
    await open('#/datasets', 'Data sets');
    await lose(page, '/datasets');
    await importSet(page, { name: 'blobs', task: 'blob', set: drawnSet({ training: 12, test: 4 }) });
    await page.getByRole('alert').getByText(/was cut off/).waitFor();
    await button(page, 'Import').click();
    await title(page, 'blobs').waitFor();
    assert.equal((await listed(page, base, '/datasets')).length, 1);
    // Of a name that is taken nothing is sent.
    await goTo(page, 'Data sets');
    await importSet(page, { name: 'blobs', task: 'blob', set: drawnSet({ training: 12, test: 4 }) });
    assert.match(await complaint(page, 'Name'), /^There is a data set of this name: take another one, such as blobs-2$/);
  });

  step('so is a job, and one that is asked for anew is another', async ({ base, page, open, expects }) => {
    expects('ERR_CONNECTION_RESET', '/jobs');
    const queue = async () => {
      await open('#/jobs/new', 'New job');
      await fillJob(page, { Labels: '8', 'Compare with the supervised baseline': false, 'More hyper-parameters': `{"epochs": 1, ${SMALL_STEPS}}` });
    };
    await queue();
    await lose(page, '/jobs');
    await button(page, 'Queue the job').click();
    await page.getByRole('alert').getByText(/does not answer/).waitFor();
    await button(page, 'Queue the job').click();
    await title(page, /^MixMatch on blobs/).waitFor();
    const [first, ...others] = await listed(page, base, '/jobs');
    assert.equal(others.length, 0);
    assert.ok(page.url().endsWith(first.id));
    await queue();
    await button(page, 'Queue the job').click();
    await title(page, /^MixMatch on blobs/).waitFor();
    assert.equal((await listed(page, base, '/jobs')).length, 2);
  });

  step('numbers of labels are asked about where they may be one', async ({ page, open }) => {
    await page.route('**/datasets?*', async (route) => {
      const response = await route.fetch();
      const list = await response.json();
      list.items[0].counts.train = { red: 9000, blue: 9000 };
      await route.fulfill({ response, json: list });
    });
    await open('#/jobs/new', 'New job');
    await field(page, 'Labels').fill('12,500');
    await page.getByText('Read as 2 numbers of labels: 12 and 500.').waitFor();
    await button(page, 'Queue the job').click();
    assert.match(await complaint(page, 'Labels'), /^“12,500” may be one number or 2/);
    await field(page, 'Labels').fill('12.000');
    await button(page, 'Queue the job').click();
    await until('it is about the other', async () => /write 12000/.test(await complaint(page, 'Labels')));
  });

  step('a server that hangs is told, and so is that it is back', async ({ page, open }) => {
    const bar = page.locator('#offline');
    const hang = () => {};
    await open('#/jobs', 'Jobs');
    assert.equal(await bar.isVisible(), false);
    await page.evaluate(() => {
      const within = AbortSignal.timeout;
      AbortSignal.timeout = (ms) => within.call(AbortSignal, Math.min(ms, 1000));
    });
    await page.route('**/livez', hang);
    await page.route('**/jobs?*', hang);
    await bar.waitFor();
    await page.unroute('**/jobs?*', hang);
    await page.unroute('**/livez', hang);
    await bar.waitFor({ state: 'hidden' });
    // Where nothing is shown yet too.
    await page.route('**/datasets?*', hang);
    await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Data sets' }).click();
    await title(page, 'This could not be shown').waitFor();
    await page.unroute('**/datasets?*', hang);
    await title(page, 'Data sets').waitFor();
  });
});
