// A wait that ends early when its signal aborts. It leaves nothing on the signal: a page may poll for days.

/// `unlessSeen`: it also ends when somebody looks at the page again.
export function pause(ms, signal, { unlessSeen = false } = {}) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      if (unlessSeen) document.removeEventListener('visibilitychange', look);
      resolve();
    };
    const look = () => document.hidden || end();
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
    if (unlessSeen) document.addEventListener('visibilitychange', look);
  });
}
