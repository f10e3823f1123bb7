// An upload under way: it is part of the page, and whoever leaves that is asked before.

import { h, freshId } from './dom.js';

/// Runs `work`. Meanwhile the browser asks before the tab is closed or loaded anew, and the page before a link leads elsewhere.
export async function whileAsking(work) {
  const over = new AbortController();
  const { signal } = over;
  addEventListener('beforeunload', (event) => event.preventDefault(), { signal });
  // Before the link itself has it.
  addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href^="#/"]');
    // In another tab or window, or to where it is already, it leaves nothing.
    if (!link || link.hash === location.hash || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    ask(signal, () => {
      over.abort();
      location.hash = link.getAttribute('href');
    });
  }, { signal, capture: true });
  try {
    return await work();
  } finally {
    over.abort();
  }
}

function ask(signal, leave) {
  const id = freshId('leave');
  const dialog = h('dialog', { 'aria-labelledby': id, onclose: () => dialog.remove() },
    h('h2', { id }, 'An upload is under way'),
    h('p', null, 'When this page is left, it is given up; where all of it has arrived, the server goes on alone.'),
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'primary', onclick: () => dialog.close() }, 'Stay here'),
      h('button', { type: 'button', class: 'danger', onclick: leave }, 'Leave')));
  // Over, there is nothing to ask any more.
  signal.addEventListener('abort', () => dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}
