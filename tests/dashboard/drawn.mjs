// Drawn data sets: a ZIP of small PNGs and its sheets, in memory. Two classes, a red and a blue blob on noise, which a
// network tells apart after a few steps. The same seed draws the same bytes.

import { crc32, deflateSync } from 'node:zlib';

const SIDE = 32;

/// Numbers in [0, 1) from a seed (mulberry32).
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function chunk(kind, data) {
  const named = Buffer.concat([Buffer.from(kind, 'latin1'), data]);
  const around = Buffer.alloc(8);
  around.writeUInt32BE(data.length, 0);
  around.writeUInt32BE(crc32(named), 4);
  return Buffer.concat([around.subarray(0, 4), named, around.subarray(4)]);
}

/// A PNG of `SIDE` pixels squared; `colour(x, y)` gives red, green and blue.
function png(colour) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(SIDE, 0);
  header.writeUInt32BE(SIDE, 4);
  // Eight bits a channel, RGB.
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc(SIDE * (1 + 3 * SIDE));
  for (let y = 0; y < SIDE; y += 1) {
    for (let x = 0; x < SIDE; x += 1) rows.set(colour(x, y), y * (1 + 3 * SIDE) + 1 + 3 * x);
  }
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}

/// A blob somewhere on noise: red (`kind` 0) or blue (`kind` 1).
export function blob(kind, seed) {
  const next = random(seed);
  const [cx, cy, radius] = [10 + 12 * next(), 10 + 12 * next(), 7 + 5 * next()];
  return png((x, y) => {
    const inside = Math.hypot(x - cx, y - cy) < radius;
    return [0, 1, 2].map((channel) => Math.floor(60 + 60 * next() + (inside && channel === 2 * kind ? 130 : 0)));
  });
}

/// A ZIP of `[name, bytes]` pairs, stored as they are: PNGs are packed already.
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [text, bytes] of files) {
    const name = Buffer.from(text);
    // What both headers of a file say of it: version 2.0, names in UTF-8, stored, 1 January 1980.
    const about = Buffer.alloc(26);
    about.writeUInt16LE(20, 0);
    about.writeUInt16LE(0x0800, 2);
    about.writeUInt16LE(0x21, 8);
    about.writeUInt32LE(crc32(bytes), 10);
    about.writeUInt32LE(bytes.length, 14);
    about.writeUInt32LE(bytes.length, 18);
    about.writeUInt16LE(name.length, 22);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), about, place, name);
    parts.push(Buffer.from('PK\x03\x04', 'latin1'), about, name, bytes);
    offset += 30 + name.length + bytes.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, listed, end]);
}

const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

export const csv = (rows) => Buffer.from(rows.map((row) => `${row.map(quoted).join(',')}\n`).join(''));

/// What the import form takes: `images`, `train` and `test` as files for Playwright. Of `training` images of each class a
/// third has no label; `column` says for each of which of two `sources` it is, by turns. `more` goes below the training sheet.
export function drawnSet({
  classes = ['red', 'blue'], column = 'source', sources = ['camera', 'phone'], training = 60, test = 40, name = (stem) => `${stem}.png`, more = [],
} = {}) {
  const files = [];
  const rows = (word, each, labelled) => classes.flatMap((label, kind) => Array.from({ length: each }, (_, at) => {
    const file = name(`${word}-${kind}-${at}`);
    files.push([file, blob(kind, files.length + 1)]);
    return [file, labelled(at) ? label : '', sources[at % 2]];
  }));
  const head = ['image', 'label', column];
  const train = [head, ...rows('train', training, (at) => at % 3 !== 2), ...more];
  const held = [head, ...rows('test', test, () => true)];
  return {
    images: { name: 'images.zip', mimeType: 'application/zip', buffer: zip(files) },
    train: { name: 'train.csv', mimeType: 'text/csv', buffer: csv(train) },
    test: { name: 'test.csv', mimeType: 'text/csv', buffer: csv(held) },
  };
}
