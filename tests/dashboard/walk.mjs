// A walk: a server and a browser for a file's tests, which go on from each other, each on a page of its own.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { openBrowser, visit, PATIENCE_MS } from './browser.mjs';
import { startServer } from './server.mjs';

const LOG_LINES = 40;
const TEXT = 3000;

/// Declares the tests of `steps(step)`: `step(title, body, options)` gives `body` a visit. `env` is for the server.
export function walk(name, env, steps) {
  describe(name, () => {
    let server;
    let browser;
    let failed = false;
    before(async () => {
      server = await startServer(env);
      browser = await openBrowser();
    }, { timeout: 5 * PATIENCE_MS });
    after(async () => {
      await browser?.close();
      await server?.stop();
    }, { timeout: 5 * PATIENCE_MS });

    steps((title, body, options) => it(title, { timeout: 5 * PATIENCE_MS }, async (test) => {
      // It would wait for what the failed one did not make.
      if (failed) {
        test.skip('a step before it failed');
        return;
      }
      const here = await visit(browser, server.base, options);
      try {
        await body(here);
        assert.deepEqual(await here.faults(), [], 'the page had faults');
      } catch (error) {
        failed = true;
        test.diagnostic(await circumstances(here, server));
        throw error;
      } finally {
        await here.close();
      }
    }));
  });
}

/// What one would ask next, of a test that failed.
async function circumstances({ page, faults }, server) {
  const text = await page.locator('body').innerText({ timeout: 5000 }).catch(String);
  const seen = await faults().catch(() => []);
  const log = server.log().split('\n').slice(-LOG_LINES);
  return [...seen, `--- the page ${page.url()}`, text.slice(0, TEXT), `--- the server’s last ${LOG_LINES} lines`, ...log].join('\n');
}

/// Waits until `holds()` gives something true, and gives that; `what` says what was waited for.
export async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${PATIENCE_MS / 1000} s until ${what}`);
    await pause(50);
  }
}
