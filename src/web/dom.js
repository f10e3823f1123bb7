// Builds elements. Strings become text nodes, never markup: what the server says cannot become a tag.

const SVG = 'http://www.w3.org/2000/svg';

export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' && element.tagName !== 'OPTION') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child == null || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child);
  }
}

/// Replaces what is inside `element`.
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/// Says something to a screen reader, once.
export function announce(text) {
  const region = document.getElementById('announce');
  if (region.textContent !== text) region.textContent = text;
}

const REACHABLE = 'a, button, input, select, textarea, summary, [tabindex]';

/// Disables `button` until the function that it gives is called. Browsers take the focus from what is disabled, and a keyboard
/// would begin at the top of the page: the button has it again then, or the page where the button is gone.
export function rest(button) {
  const focused = document.activeElement === button;
  button.disabled = true;
  return () => {
    button.disabled = false;
    const now = document.activeElement;
    // Meanwhile it may have gone elsewhere.
    if (!focused || (now !== document.body && now.checkVisibility())) return;
    (button.checkVisibility() ? button : document.getElementById('main')).focus({ preventScroll: true });
  };
}

/// Rebuilds what is in `element`; what has the focus there has it again, where it comes again, or else the page.
export function keepingFocus(element, rebuild) {
  const focused = document.activeElement;
  if (!element.contains(focused) || focused === element) {
    rebuild();
    return;
  }
  const face = (node) => [node.tagName, node.getAttribute('href'), node.getAttribute('aria-label'), node.textContent].join('\n');
  const wanted = face(focused);
  const alike = () => [...element.querySelectorAll(REACHABLE)].filter((node) => face(node) === wanted);
  const place = alike().indexOf(focused);
  rebuild();
  (alike()[place] ?? document.getElementById('main')).focus({ preventScroll: true });
}

/// Rebuilds a place only if what it shows has changed: focus, selection and hover survive polling.
export function changing(element) {
  let before;
  return (data, build) => {
    const now = JSON.stringify(data);
    if (now === before) return;
    before = now;
    keepingFocus(element, () => put(element, build()));
  };
}

let ids = 0;

export function freshId(word) {
  ids += 1;
  return `${word}-${ids}`;
}
