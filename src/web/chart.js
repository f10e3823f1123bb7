// A line chart in SVG: axes, a legend that switches lines and reads values, a crosshair shared by a group.

import { h, svg, put, announce } from './dom.js';
import { ticks, domain, linear, logarithmic } from './scale.js';

const HEIGHT = 210;
const MARGIN = { top: 22, right: 14, bottom: 26 };

/// Room for the widest label; a digit takes about seven pixels.
const roomFor = (labels) => 16 + 7 * Math.max(3, ...labels.map((label) => label.length));

/// Charts that point at the same epoch together.
export class Crosshairs {
  #charts = new Set();

  add(point) {
    this.#charts.add(point);
  }

  move(x) {
    for (const point of this.#charts) point(x);
  }
}

/// `lines`: `{ label, points: [[x, y, deviation?], …] }`, drawn in the colours --line-1 to --line-6 by `colour` or by
/// place. `format(value, axis)` writes a value; for a label of the axis it is given all of that axis's. With `log` the x axis goes by orders of magnitude and names the points' own places.
/// `update(lines, { xMax, best, note })` draws anew; `best` marks an x, and `note` stands below.
export function lineChart({ title, format, unit = 'epoch', group = new Crosshairs(), zero = false, log = false, bounds }) {
  const hidden = new Set();
  let state = { lines: [], xMax: 1, best: null };
  let pointed = null;
  let frame = null;
  let drawn = null;

  const legend = h('div', { class: 'legend' });
  const readout = h('span', { class: 'readout' });
  const below = h('p', { class: 'hint' });
  const picture = svg('svg', { class: 'plot', height: HEIGHT, tabindex: 0, role: 'img', 'aria-label': `${title} by ${unit}` });
  const node = h('figure', { class: 'chart' },
    h('figcaption', null, h('span', { class: 'chart-title' }, title), readout), legend, picture, below);

  const visible = () => state.lines.filter((line) => !hidden.has(line.label));
  const colour = (line) => `var(--line-${((line.colour ?? state.lines.indexOf(line)) % 6) + 1})`;

  function draw() {
    frame = null;
    const width = picture.clientWidth;
    if (!width) return;
    const shown = visible();
    const points = shown.flatMap((line) => line.points).filter(([, y]) => Number.isFinite(y));
    const values = points.flatMap(([, y, sd = 0]) => [y - sd, y + sd]);
    const [low, high] = domain(values, { zero, bounds });
    const span = log ? placesSpan() : wholeSpan();
    const heights = ticks(low, high, 4);
    const marks = heights.map((value) => [value, format(value, heights)]);
    const left = roomFor(marks.map(([, label]) => label));
    const x = (log ? logarithmic : linear)(span, [left + (log ? 12 : 0), width - MARGIN.right - (log ? 12 : 0)]);
    const y = linear([low, high], [HEIGHT - MARGIN.bottom, MARGIN.top]);
    const cross = svg('g', { class: 'crosshair' });
    drawn = { x, y, span, left, width, cross };
    picture.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    put(picture, axes(x, y, span, marks), bestMark(x), shown.map((line) => path(line, x, y)), cross);
    read();
  }

  function wholeSpan() {
    const first = Math.min(1, ...state.lines.map((line) => line.points[0]?.[0] ?? 1));
    return [first, Math.max(state.xMax, first + 1)];
  }

  const places = () => [...new Set(state.lines.flatMap((line) => line.points.map(([px]) => px)))].sort((a, b) => a - b);

  function placesSpan() {
    const all = places();
    return all.length > 1 ? [all[0], all.at(-1)] : [(all[0] ?? 1) / 2, (all[0] ?? 1) * 2];
  }

  function axes(x, y, span, marks) {
    const { left, width } = drawn;
    const bottom = HEIGHT - MARGIN.bottom;
    const across = log ? places() : ticks(...span, Math.max(2, Math.floor(width / 90))).filter(Number.isInteger);
    return svg('g', { class: 'axes' },
      marks.map(([value, label]) => [
        svg('line', { x1: left, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: 'rule' }),
        svg('text', { x: left - 7, y: y(value) + 4, 'text-anchor': 'end' }, label),
      ]),
      across.map((value) => svg('text', { x: x(value), y: bottom + 18, 'text-anchor': 'middle' }, String(value))),
      svg('line', { x1: left, x2: width - MARGIN.right, y1: bottom, y2: bottom, class: 'base' }));
  }

  function bestMark(x) {
    if (state.best == null) return null;
    const at = x(state.best);
    const before = at > (drawn.width + drawn.left) / 2;
    return svg('g', { class: 'best' },
      svg('line', { x1: at, x2: at, y1: MARGIN.top - 16, y2: HEIGHT - MARGIN.bottom }),
      svg('text', { x: at + (before ? -5 : 5), y: MARGIN.top - 8, 'text-anchor': before ? 'end' : 'start' }, `best: ${state.best}`));
  }

  function path(line, x, y) {
    const points = line.points.filter(([, value]) => Number.isFinite(value));
    if (log) return [points.map((point) => spread(line, point, x, y)), joined(line, points, x, y)];
    if (points.length === 1) return svg('circle', { cx: x(points[0][0]), cy: y(points[0][1]), r: 3, fill: colour(line) });
    return joined(line, points, x, y);
  }

  /// A point with its deviation to both sides.
  function spread(line, [px, py, sd], x, y) {
    return svg('g', { class: 'spread', stroke: colour(line) },
      sd != null && svg('line', { x1: x(px), x2: x(px), y1: y(py - sd), y2: y(py + sd) }),
      sd != null && [py - sd, py + sd].map((end) => svg('line', { x1: x(px) - 4, x2: x(px) + 4, y1: y(end), y2: y(end) })),
      svg('circle', { cx: x(px), cy: y(py), r: 3, fill: colour(line) }));
  }

  function joined(line, points, x, y) {
    const d = points.map(([px, py], i) => `${i ? 'L' : 'M'}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join('');
    return svg('path', { d, fill: 'none', stroke: colour(line), 'stroke-width': 2, 'stroke-linejoin': 'round', 'stroke-dasharray': line.dash && '5 4' });
  }

  const at = (line, where) => line.points.findLast(([px]) => px <= where);

  /// The values under the crosshair; without one, the last.
  function read() {
    put(readout, pointed == null ? '' : `${unit} ${pointed}`);
    const values = state.lines.map((line) => {
      const point = pointed == null ? line.points.at(-1) : at(line, pointed);
      return point && Number.isFinite(point[1]) ? format(point[1]) + (point[2] == null ? '' : ` ± ${format(point[2])}`) : '–';
    });
    [...legend.children].forEach((item, i) => put(item.lastElementChild, values[i]));
    if (!drawn) return;
    put(drawn.cross);
    if (pointed == null || pointed > drawn.span[1]) return;
    put(drawn.cross,
      svg('line', { x1: drawn.x(pointed), x2: drawn.x(pointed), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      visible().map((line) => {
        const point = at(line, pointed);
        return point && Number.isFinite(point[1])
          ? svg('circle', { cx: drawn.x(point[0]), cy: drawn.y(point[1]), r: 3.5, fill: colour(line) }) : null;
      }));
  }

  function point(x) {
    pointed = x;
    read();
  }
  group.add(point);

  function nearest(clientX) {
    if (!drawn) return null;
    const wanted = clientX - picture.getBoundingClientRect().left;
    const distance = (px) => Math.abs(drawn.x(px) - wanted);
    let best = null;
    for (const line of visible()) {
      for (const [px] of line.points) if (best == null || distance(px) < distance(best)) best = px;
    }
    return best;
  }

  picture.addEventListener('pointermove', (event) => group.move(nearest(event.clientX)));
  picture.addEventListener('pointerdown', (event) => group.move(nearest(event.clientX)));
  picture.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && group.move(null));
  picture.addEventListener('blur', () => group.move(null));
  picture.addEventListener('keydown', (event) => {
    const xs = [...new Set(visible().flatMap((line) => line.points.map(([px]) => px)))].sort((a, b) => a - b);
    const here = pointed == null ? xs.length - 1 : xs.indexOf(pointed);
    const next = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: xs.length - 1, Escape: null }[event.key];
    if (next === undefined || !xs.length) return;
    event.preventDefault();
    group.move(next === null ? null : xs[Math.min(Math.max(next, 0), xs.length - 1)]);
    if (pointed != null) announce(`${unit} ${pointed}: ${state.lines.map((line) => `${line.label} ${format(at(line, pointed)?.[1])}`).join(', ')}`);
  });

  function buildLegend() {
    put(legend, state.lines.map((line) => {
      const swatch = svg('svg', { width: 18, height: 8, 'aria-hidden': 'true' },
        svg('line', { x1: 0, x2: 18, y1: 4, y2: 4, stroke: colour(line), 'stroke-width': 3, 'stroke-dasharray': line.dash && '5 3' }));
      const button = h('button', { type: 'button', 'aria-pressed': String(!hidden.has(line.label)), onclick: () => toggle(line, button) },
        swatch, h('span', null, line.label), h('span', { class: 'legend-value' }));
      return button;
    }));
  }

  function toggle(line, button) {
    if (!hidden.delete(line.label)) hidden.add(line.label);
    button.setAttribute('aria-pressed', String(!hidden.has(line.label)));
    schedule();
  }

  // Many events arrive at once when a stream is replayed: one drawing a frame is enough.
  const schedule = () => {
    frame ??= requestAnimationFrame(draw);
  };
  new ResizeObserver(schedule).observe(picture);

  function update(lines, { xMax, best = null, note = null }) {
    const names = (list) => list.map((line) => line.label).join('\n');
    const renamed = names(lines) !== names(state.lines);
    state = { lines, xMax, best };
    if (renamed) buildLegend();
    put(below, note);
    below.hidden = !note;
    schedule();
  }

  return { node, update };
}
