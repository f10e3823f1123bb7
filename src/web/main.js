// Starts the dashboard: routes, the key button, what server this is.

import { put } from './dom.js';
import { askForKey, showKeyState } from './key.js';
import { route, show, showIfFailed } from './router.js';
import { overview } from './view-overview.js';
import { datasets } from './view-datasets.js';
import { dataset } from './view-dataset.js';
import { label } from './view-label.js';
import { jobs } from './view-jobs.js';
import { newJob } from './view-job-new.js';
import { job } from './view-job.js';
import { compare } from './view-compare.js';
import { models } from './view-models.js';
import { predict } from './view-predict.js';

route('/', 'Overview', overview);
route('/datasets', 'Data sets', datasets);
route('/datasets/{id}', null, dataset);
route('/label', 'Label images', label);
route('/jobs', 'Jobs', jobs);
route('/jobs/new', 'New job', newJob);
route('/jobs/{id}', null, job);
route('/compare', 'Compare', compare);
route('/models', 'Models', models);
route('/predict', 'Predict', predict);

const main = document.getElementById('main');

// The address after # belongs to the router, so this link cannot use it.
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

document.getElementById('key').addEventListener('click', async () => {
  // What is filled in on a page that is shown stays there.
  if (await askForKey()) showIfFailed();
});

addEventListener('hashchange', async () => {
  await show();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});

async function about() {
  try {
    const { version } = await (await fetch('/livez')).json();
    put(document.getElementById('about'), `mixmatch ${version}`);
  } catch {
    put(document.getElementById('about'), 'mixmatch');
  }
}

showKeyState();
about();
show();
