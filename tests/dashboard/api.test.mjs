// src/web/api.js: an upload that is given up before it began.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { upload } from '../../src/web/api.js';

test('of a signal that has aborted nothing is sent', async () => {
  globalThis.XMLHttpRequest = class {
    constructor() {
      assert.fail('a request was made');
    }
  };
  await assert.rejects(upload('/datasets', new FormData(), () => {}, AbortSignal.abort()), { name: 'AbortError' });
});
