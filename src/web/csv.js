// Reading CSV (RFC 4180), as the service writes it, or as a spreadsheet program has saved it again.

/// Before a file that people open in Excel: without it Excel on Windows takes UTF-8 for the code page of its own.
export const MARK = '\u{feff}';

/// The rows of a text with a header, each as an object by the header's names.
export function parse(whole, separator = ',') {
  const text = whole.startsWith(MARK) ? whole.slice(MARK.length) : whole;
  const [header = [], ...rows] = records(toldIn(text) === separator ? text.replace(TOLD, '') : text, separator);
  return rows.map((row) => Object.fromEntries(header.map((name, at) => [name, row[at] ?? ''])));
}

/// A first line of Excel's own, which tells what stands between the cells.
const TOLD = /^\s*sep=([^\r\n"])(?:\r\n?|\n|$)/i;

const toldIn = (text) => TOLD.exec(text)?.[1];

/// What stands between a text's cells: where a comma is for fractions, spreadsheet programs take another sign.
export function separatorOf(text) {
  if (toldIn(text)) return toldIn(text);
  const [first] = text.trimStart().split(/\r\n?|\n/, 1);
  const times = (sign) => first.split(sign).length;
  return [',', ';', '\t', '|'].reduce((best, sign) => (times(sign) > times(best) ? sign : best));
}

function records(text, separator) {
  const rows = [];
  let row = [];
  // Any sign may be the separator, also one that means something in a pattern.
  const sign = `\\u${separator.charCodeAt(0).toString(16).padStart(4, '0')}`;
  // A cell, in double quotes (doubled inside) or not, and what ends it: the lines of old programs for the Mac end with a CR alone.
  const cells = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${sign}\\r\\n]*))(${sign}|\\r\\n?|\\n|$)`, 'g');
  for (const [, quoted, plain, end] of text.matchAll(cells)) {
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === separator) continue;
    if (row.length > 1 || row[0] !== '') rows.push(row);
    row = [];
  }
  return rows;
}
