// Reading CSV (RFC 4180), as the service writes it, or as a spreadsheet program has saved it again.

/// The rows of a text with a header, each as an object by the header's names.
export function parse(text, separator = ',') {
  const [header = [], ...rows] = records(text, separator);
  return rows.map((row) => Object.fromEntries(header.map((name, at) => [name, row[at] ?? ''])));
}

/// What stands between a text's cells: where a comma is for fractions, spreadsheet programs take another sign.
export function separatorOf(text) {
  const [first] = text.trimStart().split(/\r?\n/, 1);
  const times = (sign) => first.split(sign).length;
  return [',', ';', '\t'].reduce((best, sign) => (times(sign) > times(best) ? sign : best));
}

function records(text, separator) {
  const rows = [];
  let row = [];
  // A cell, in double quotes (doubled inside) or not, and what ends it.
  const cells = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${separator}\\r\\n]*))(${separator}|\\r?\\n|$)`, 'g');
  for (const [, quoted, plain, end] of text.matchAll(cells)) {
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === separator) continue;
    if (row.length > 1 || row[0] !== '') rows.push(row);
    row = [];
  }
  return rows;
}
