// src/web/sse.js: when a stream is let go, and when it is asked for again.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';

import { KEY_GIVEN } from '../../src/web/key.js';
import { follow } from '../../src/web/sse.js';

const page = Object.assign(new EventTarget(), { hidden: false, getElementById: () => ({}) });
/// Each request's headers, and what ends or goes on with its answer.
let requests;
/// What answers in place of a stream.
let refusal;
let links;
let events;
let leaving;

const look = (at) => {
  page.hidden = !at;
  page.dispatchEvent(new Event('visibilitychange'));
};

/// Until all that waits for promises alone has gone on.
const settled = async () => {
  for (let times = 0; times < 20; times += 1) await turn();
};

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout'] });
  [requests, refusal, links, events, leaving] = [[], null, [], [], new AbortController()];
  globalThis.sessionStorage = { getItem: () => null };
  globalThis.document = page;
  globalThis.fetch = async (path, { headers, signal }) => {
    const request = { after: headers['last-event-id'], ended: false };
    requests.push(request);
    if (refusal) return new Response(JSON.stringify(refusal), { status: refusal.status });
    const body = new ReadableStream({
      start(stream) {
        request.send = (text) => stream.enqueue(new TextEncoder().encode(text));
        signal.addEventListener('abort', () => {
          request.ended = true;
          stream.error(signal.reason);
        });
      },
      cancel() {
        request.ended = true;
      },
    });
    return new Response(body);
  };
  follow('/jobs/1/events', { signal: leaving.signal, onevent: (name, data) => events.push([name, data]), onlink: (up, why) => links.push(why?.message ?? up), finished: () => false });
});

afterEach(() => {
  leaving.abort();
  page.hidden = false;
  mock.timers.reset();
});

test('a page that is not looked at lets its stream go, and goes on from there without a word', async () => {
  await settled();
  requests[0].send('id: 7\nevent: step\ndata: 1\n\nid: 8\nevent: step\nda');
  await settled();
  look(false);
  await settled();
  mock.timers.tick(60_000);
  await settled();
  assert.deepEqual([requests.length, requests[0].ended, links], [1, true, [true]]);
  look(true);
  await settled();
  assert.deepEqual(requests.map(({ after }) => after), [undefined, '7']);
  requests[1].send('id: 9\nevent: step\ndata: 2\n\n');
  await settled();
  assert.deepEqual([events, links], [[['step', 1], ['step', 2]], [true, true]]);
});

test('a connection on which not even comments come is given up for another one', async () => {
  await settled();
  for (let times = 0; times < 4; times += 1) {
    mock.timers.tick(15_000);
    requests[0].send(': still here\n\n');
    await settled();
  }
  assert.deepEqual([requests.length, links], [1, [true]]);
  mock.timers.tick(45_000);
  await settled();
  assert.deepEqual([requests[0].ended, links], [true, [true, false]]);
  mock.timers.tick(1000);
  await settled();
  assert.deepEqual([requests.length, links], [2, [true, false, true]]);
});

test('a key that may not see the stream is told of, and another one goes on with it at once', async () => {
  await settled();
  requests[0].send('id: 7\nevent: step\ndata: 1\n\n');
  await settled();
  refusal = { status: 403, detail: 'this needs a key of scope train' };
  look(false);
  look(true);
  await settled();
  mock.timers.tick(1000);
  await settled();
  assert.deepEqual([requests.length, links], [3, [true, refusal.detail, refusal.detail]]);
  refusal = null;
  page.dispatchEvent(new Event(KEY_GIVEN));
  await settled();
  assert.deepEqual([requests.length, requests.at(-1).after, links.at(-1)], [4, '7', true]);
});

test('a stream that is not there is not asked for again', async () => {
  await settled();
  refusal = { status: 404, detail: 'there is no such job' };
  const gone = follow('/jobs/2/events', { signal: leaving.signal, onlink: () => {}, finished: () => false });
  await assert.rejects(gone, { message: refusal.detail });
});
