// A headless Chromium, and visits to one server: each is a page that notes every fault that it sees.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Outside the checkout's files, where ES modules would not look: scripts/dashboard_check.sh installs it there.
const modules = process.env.DASHBOARD_MODULES ?? fileURLToPath(new URL('../../target/ci/dashboard', import.meta.url));
const { chromium } = createRequire(join(modules, 'package.json'))('playwright-core');

const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run',
  // No other machine is found, so that nothing leaves this one even where a page asks for it.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

/// As long as anything may take on a machine that has other things to do.
export const PATIENCE_MS = 120_000;

export const openBrowser = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGUMENTS });

const REFUSED = /^Failed to load resource: (?:the server responded with a status of (\d+)|net::(\w+))/;

/// Of what a page has made itself no more than that.
const pathOf = (url) => (url.startsWith('blob:') ? 'blob:' : URL.canParse(url) && new URL(url).pathname);

/// A new page of nobody's; `options` are Playwright's for a context (`colorScheme`, `viewport` …).
///
/// `faults()` are those seen so far: errors of the console, among them each violation of the content security policy, uncaught
/// exceptions, requests to elsewhere, and answers of 400 and above but for those that `expects(status, path)` announced; in place of
/// a status it takes Chromium's name for why there was no answer.
export async function visit(browser, base, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE_MS);
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`content security policy: ${event.violatedDirective} forbids ${event.blockedURI}`));
  });
  const page = await context.newPage();
  const seen = [];
  const expected = new Set();
  page.on('pageerror', (error) => seen.push(`uncaught: ${error.stack ?? error}`));
  page.on('dialog', (dialog) => {
    seen.push(`a dialogue of the browser: ${dialog.message()}`);
    dialog.dismiss().catch(() => {});
  });
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!['blob:', 'data:'].includes(protocol) && origin !== base) seen.push(`a request to elsewhere: ${request.url()}`);
  });
  page.on('console', (message) => {
    if (message.type() !== 'error') return;
    const { url } = message.location();
    const [, status, fault] = REFUSED.exec(message.text()) ?? [];
    if (expected.has(`${status ?? fault} ${pathOf(url)}`)) return;
    seen.push(`console: ${message.text()} (${url})`);
  });

  /// Goes to an address behind `/`, and waits for its heading.
  async function open(hash, heading) {
    await page.goto(`${base}/${hash}`);
    await page.getByRole('heading', { level: 1, name: heading }).waitFor();
  }

  async function faults() {
    // What the page said before its answer has arrived before it.
    await page.evaluate(() => 0);
    return seen;
  }

  const expects = (status, path) => expected.add(`${status} ${path}`);
  return { base, page, open, expects, faults, close: () => context.close() };
}
