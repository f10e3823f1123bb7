// The charts of one job: what was measured, in the order in which one asks.

import { h, put } from './dom.js';
import { lineChart, Crosshairs } from './chart.js';
import { count, number, score, share } from './format.js';

const BOUNDS = [0, 1];

/// Classes whose lines one can still tell apart, more or less.
const MOST = 12;

const CHARTS = [
  { title: 'Accuracy', format: share, bounds: BOUNDS, lines: [['validation', 'validation_accuracy'], ['training', 'train_accuracy', { dash: true }], ['validation, raw weights', 'validation_accuracy_raw', { dash: true }]] },
  { title: 'Loss', format: number, zero: true, lines: [['total', 'loss'], ['labelled L_X', 'loss_labelled'], ['validation', 'validation_loss', { dash: true }]] },
  { title: 'F1 on validation', format: (value, axis) => (axis ? number(value) : score(value)), bounds: BOUNDS, lines: [['positive class', 'validation_f1'], ['macro', 'validation_f1_macro', { dash: true }]] },
  { title: 'Unlabelled loss L_U', format: number, zero: true, lines: [['unlabelled L_U', 'loss_unlabelled', { colour: 2 }]] },
  { title: 'λ_U', format: number, zero: true, lines: [['λ_U', 'lambda_u', { colour: 3 }]] },
  { title: 'Learning rate', format: number, zero: true, lines: [['learning rate', 'learning_rate', { colour: 4 }]] },
  { title: 'Guessed labels', format: share, bounds: BOUNDS, zero: true, lines: [['confidence', 'guess_confidence', { colour: 5 }]], shares: 'guess_classes' },
  { title: 'Answers on validation', format: share, bounds: BOUNDS, zero: true, lines: [], shares: 'validation_classes' },
];

/// `update(rows, { none, epochs, best, classes })`: `none` is said where there are no rows. Charts of what a job does not measure stay away.
export function jobCharts() {
  const group = new Crosshairs();
  const charts = CHARTS.map((kind) => ({ kind, chart: lineChart({ ...kind, group }) }));
  const empty = h('p', { class: 'muted' });
  const grid = h('div', { class: 'charts' }, charts.map(({ chart }) => chart.node));

  function update(rows, { none, epochs, best, classes }) {
    empty.hidden = rows.length > 0;
    put(empty, none);
    for (const { kind, chart } of charts) {
      const lines = linesOf(kind, rows, classes);
      chart.node.hidden = lines.length === 0;
      const left = kind.shares && lines.length > 0 ? classes.length - MOST : 0;
      if (lines.length) chart.update(lines, { xMax: epochs, best, note: left > 0 && `The ${MOST} classes whose shares are farthest from an equal one; ${count(left)} more are left out.` });
    }
  }
  return { node: h('div', null, empty, grid), update };
}

function linesOf(kind, rows, classes) {
  const lines = kind.lines.map(([label, field, style]) => ({ label, ...style, points: rows.map((row) => [row.epoch, row[field]]).filter(([, y]) => y != null) }));
  const known = kind.shares ? rows.filter((row) => row[kind.shares]?.length) : [];
  if (known.length) {
    for (const i of striking(known.at(-1)[kind.shares], classes)) lines.push({ label: `share ${classes[i]}`, colour: i, dash: true, points: known.map((row) => [row.epoch, row[kind.shares][i]]) });
  }
  return lines.filter((line) => line.points.length > 0);
}

/// The places of the classes that are drawn: of many, those that stand out.
function striking(shares, classes) {
  const gap = (i) => Math.abs((shares[i] ?? 0) - 1 / classes.length);
  return [...classes.keys()].sort((a, b) => gap(b) - gap(a)).slice(0, MOST).sort((a, b) => a - b);
}
