// A job's log. Lines are read from /logs, which knows their times; the stream only says that there are more.

import { get } from './api.js';
import { h, put } from './dom.js';
import { action } from './problem.js';
import { clock } from './format.js';

export function jobLog(id, signal) {
  const lines = h('ol', { class: 'log', tabindex: '0', 'aria-label': 'Log' });
  const trouble = h('div');
  const node = h('section', { hidden: true }, h('h2', null, 'Log'), lines, trouble);
  let cursor = 0;
  let reading = false;
  let again = false;

  /// Never rejects: what could not be read is said below the lines.
  async function refresh() {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    try {
      do {
        again = false;
        const page = await get(`/jobs/${id}/logs?cursor=${cursor}`, signal);
        show(page.items);
        again ||= page.next_cursor != null;
      } while (again);
      put(trouble);
    } catch (error) {
      if (signal.aborted) return;
      node.hidden = false;
      put(trouble, h('p', { class: 'hint' }, `The log could not be read to its end: ${error.message} `, action('Try again', refresh, { place: h('span'), kind: 'small' })));
    } finally {
      reading = false;
    }
  }

  function show(items) {
    if (!items.length) return;
    const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    for (const line of items) {
      lines.append(h('li', { class: line.level }, h('time', { datetime: line.at }, clock(line.at)), h('span', { class: 'level' }, line.level), h('span', { class: 'message' }, line.message)));
      cursor = line.id;
    }
    node.hidden = false;
    // Whoever has scrolled up is reading.
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  return { node, refresh };
}
