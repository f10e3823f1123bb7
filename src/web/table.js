// A table that becomes a stack of cards where it is too narrow for columns.

import { h } from './dom.js';

/// Columns: `{ head, cell(row), number? }`; a cell is a node, a string, or nothing.
export function table(columns, rows, { caption, rowClass } = {}) {
  return h('div', { class: 'table-wrap' },
    h('table', { class: 'stack' },
      caption && h('caption', { class: 'visually-hidden' }, caption),
      h('thead', null, h('tr', null, columns.map((column) => h('th', { scope: 'col', class: column.number && 'number' }, column.head)))),
      h('tbody', null, rows.map((row) => h('tr', { class: rowClass?.(row) }, columns.map((column) => cell(column, row)))))));
}

function cell(column, row) {
  const label = typeof column.head === 'string' ? column.head : '';
  const content = column.cell(row);
  const empty = content == null || content === '–';
  return h('td', { class: [column.number && 'number', empty && 'empty'].filter(Boolean).join(' ') || null, 'data-label': label || null },
    // One element, whatever a cell is made of: on a phone it stands opposite its label.
    typeof content === 'string' || Array.isArray(content) ? h('span', null, content) : content);
}

/// Names and values, side by side.
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(Boolean).map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))));
}

/// Large figures with a word below.
export function tiles(items) {
  return h('div', { class: 'tiles' }, items.filter(Boolean).map(({ name, value, note }) => h('div', { class: 'tile' },
    h('div', { class: 'tile-name' }, name), h('div', { class: 'tile-value' }, value), note && h('div', { class: 'tile-note' }, note))));
}
