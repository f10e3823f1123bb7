// An upload under way: it is part of the page, and whoever leaves that is asked before.

import { h, freshId } from './dom.js';

/// What is asked of whoever has gone to another address, while there is something to leave.
let onleave = null;

// Modules that are imported come first: before main.js has the router show the new address.
addEventListener('hashchange', (event) => {
  if (!onleave) return;
  event.stopImmediatePropagation();
  onleave();
});

/// Runs `work`. Meanwhile the browser asks before the tab is closed or loaded anew, and the page before a link, Back or another
/// address leads elsewhere.
export async function whileAsking(work) {
  const over = new AbortController();
  const { signal } = over;
  const here = location.hash;
  let dialog = null;
  /// What had the focus before the question.
  let before = null;
  const question = (leave) => {
    before = dialog ? before : document.activeElement;
    dialog?.remove();
    dialog = ask(leave, () => {
      stay();
      refocus();
    });
  };
  // What is disabled meanwhile had it as little as the body: a keyboard goes on at the page.
  const refocus = () => {
    const back = before !== document.body && before.checkVisibility() && !before.disabled ? before : document.getElementById('main');
    back.focus({ preventScroll: true });
  };
  // Of Back the address has changed already. To which side one went nobody says: the page becomes the newest.
  const stay = () => {
    dialog = null;
    if (location.hash !== here) history.pushState(null, '', here);
  };
  signal.addEventListener('abort', () => {
    onleave = null;
    // Over, there is nothing to ask any more.
    dialog?.remove();
    if (dialog) stay();
  });
  const leave = (go) => () => {
    dialog.remove();
    dialog = null;
    over.abort();
    go();
  };
  addEventListener('beforeunload', (event) => event.preventDefault(), { signal });
  // Before the link itself has it.
  addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href^="#/"]');
    // In another tab or window, or to where it is already, it leaves nothing.
    if (!link || link.hash === location.hash || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    question(leave(() => { location.hash = link.getAttribute('href'); }));
  }, { signal, capture: true });
  onleave = () => {
    if (location.hash !== here) question(leave(() => dispatchEvent(new HashChangeEvent('hashchange'))));
    else if (dialog) {
      // Back and forth again.
      dialog.remove();
      dialog = null;
      refocus();
    }
  };
  try {
    return await work();
  } finally {
    over.abort();
  }
}

function ask(leave, stay) {
  const id = freshId('leave');
  const dialog = h('dialog', { 'aria-labelledby': id, onclose: () => {
    // One that was removed has been dealt with.
    if (!dialog.isConnected) return;
    dialog.remove();
    stay();
  } },
    h('h2', { id }, 'An upload is under way'),
    h('p', null, 'When this page is left, it is given up; where all of it has arrived, the server goes on alone.'),
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'primary', onclick: () => dialog.close() }, 'Stay here'),
      h('button', { type: 'button', class: 'danger', onclick: leave }, 'Leave')));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/// What became of an upload whose page is left: above the page that is shown instead, until that is left too.
export function tellElsewhere(words) {
  const bar = h('div', { class: 'offline' }, `${words}.`);
  document.getElementById('main').before(bar);
  addEventListener('hashchange', () => bar.remove(), { once: true });
}
