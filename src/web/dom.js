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

/// Rebuilds a place only if what it shows has changed: focus, selection and hover survive polling.
export function changing(element) {
  let before;
  return (data, build) => {
    const now = JSON.stringify(data);
    if (now === before) return;
    before = now;
    put(element, build());
  };
}

let ids = 0;

export function freshId(word) {
  ids += 1;
  return `${word}-${ids}`;
}
