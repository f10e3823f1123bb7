// src/web/zip.js against archives that are made here, byte by byte.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { crc32, deflateRawSync } from 'node:zlib';
import { tooLarge } from '../../src/web/label-pictures.js';
import { ZipError, entries, normalisedPath, open } from '../../src/web/zip.js';

const utf8 = (text) => new TextEncoder().encode(text);

function record(bytes, ...fields) {
  const record = Buffer.alloc(bytes);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 8) record.writeBigUInt64LE(BigInt(value), at);
    else record.writeUIntLE(value, at, size);
    at += size;
  }
  assert.equal(at, bytes);
  return record;
}

/// Files: `{ name, content, deflate, flags, method, extra, zip64, mode, size }`, each but the first two only where it matters.
function archive(files, { comment = '', before = '', zip64 = false } = {}) {
  const parts = [Buffer.from(before)];
  const directory = [];
  let offset = 0;
  for (const file of files) {
    const name = typeof file.name === 'string' ? utf8(file.name) : file.name;
    const content = Buffer.from(file.content ?? '');
    const packed = file.deflate ? deflateRawSync(content) : content;
    const method = file.method ?? (file.deflate ? 8 : 0);
    const flags = file.flags ?? 0;
    const crc = file.crc ?? 7;
    const size = file.size ?? content.length;
    // A local header may have another extra field than the directory: readers must not confuse their lengths.
    const localExtra = Buffer.from('ab\x02\x00xy');
    const local = record(30, [4, 0x04034b50], [2, 20], [2, flags], [2, method], [4, 0], [4, crc], [4, packed.length], [4, size], [2, name.length], [2, localExtra.length]);
    const wide = file.zip64 ? record(28, [2, 1], [2, 24], [8, size], [8, packed.length], [8, offset]) : Buffer.alloc(0);
    const extra = Buffer.concat([file.extra ?? Buffer.alloc(0), wide]);
    const narrow = (value) => (file.zip64 ? 0xffffffff : value);
    directory.push(record(46, [4, 0x02014b50], [1, 20], [1, 3], [2, 20], [2, flags], [2, method], [4, 0], [4, crc], [4, narrow(packed.length)], [4, narrow(size)],
      [2, name.length], [2, extra.length], [2, 3], [2, 0], [2, 0], [4, (file.mode ?? 0o100644) * 0x10000], [4, narrow(offset)]), name, extra, Buffer.from('why'));
    parts.push(local, name, localExtra, packed);
    offset += local.length + name.length + localExtra.length + packed.length;
  }
  const all = Buffer.concat(directory);
  parts.push(all);
  if (zip64) {
    parts.push(record(56, [4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, files.length], [8, files.length], [8, all.length], [8, offset]));
    parts.push(record(20, [4, 0x07064b50], [4, 0], [8, offset + all.length], [4, 1]));
  }
  const most = (value, limit) => (zip64 ? limit : value);
  parts.push(record(22, [4, 0x06054b50], [2, 0], [2, 0], [2, most(files.length, 0xffff)], [2, most(files.length, 0xffff)], [4, most(all.length, 0xffffffff)], [4, most(offset, 0xffffffff)], [2, comment.length]));
  parts.push(Buffer.from(comment));
  return new Blob(parts);
}

const names = async (blob) => (await entries(blob)).map((entry) => entry.name);
const first = async (blob) => (await entries(blob))[0];
const contentOf = async (blob) => (await open(blob, await first(blob))).text();
const refused = (promise, words) => assert.rejects(promise, (error) => error instanceof ZipError && words.test(error.message));

test('a stored and a deflated image come out as they went in, with their media types', async () => {
  const long = 'many a word '.repeat(1000);
  const blob = archive([{ name: 'a.jpg', content: 'as it is', crc: 42 }, { name: 'faces/b.PNG', content: long, deflate: true }]);
  const [a, b] = await entries(blob);
  assert.deepEqual({ ...a, offset: 0 }, { name: 'a.jpg', method: 0, flags: 0, compressed: 8, size: 8, offset: 0, crc: 42 });
  assert.equal(b.method, 8);
  assert.ok(b.compressed < b.size);
  assert.deepEqual([await (await open(blob, a)).text(), (await open(blob, a)).type], ['as it is', 'image/jpeg']);
  assert.deepEqual([await (await open(blob, b)).text(), (await open(blob, b)).type], [long, 'image/png']);
});

test('only images count: no folders, hidden files, or what file managers leave', async () => {
  const kept = ['a.jpg', 'f/b.JPEG', 'c.webp', './d.png', 'e\\f.png', 'é:g.png'];
  const others = ['f/', 'f/notes.txt', 'jpg', 'x.constructor', '__MACOSX/a.jpg', '.h.jpg', 'f/._b.jpeg', '.cache/c.png', 'Thumbs.db', 'g.jpg/'];
  const all = archive([...others, ...kept].map((name) => ({ name })));
  assert.deepEqual(await names(all), kept);
  // What people put there themselves is told of, so that no photo is left out silently.
  const told = [];
  await entries(all, (name) => told.push(name));
  assert.deepEqual(told, ['f/notes.txt', 'jpg', 'x.constructor']);
});

test('what a path is, it is to the import too', async () => {
  const list = readFileSync(new URL('../archive_names.txt', import.meta.url), 'utf8').trim().split('\n').filter((line) => !line.startsWith('#'));
  const [kinds, paths] = [0, 1].map((at) => list.map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)][at]));
  const of = (kind) => paths.filter((_, at) => kinds[at] === kind);
  const others = [];
  const images = await entries(archive(paths.map((name) => ({ name }))), (name) => others.push(name));
  assert.deepEqual(images.map(({ name }) => name), of('image'));
  assert.deepEqual(others, of('other'));
  assert.equal(of('image').length + of('other').length + of('hidden').length + of('litter').length, list.length);
  assert.equal((await open(archive([{ name: 'a.JFIF' }]), { ...images[0], name: 'a.JFIF' })).type, 'image/jpeg');
});

test('a comment at the end is no hindrance, even one that looks like an end', async () => {
  const end = record(22, [4, 0x06054b50], [2, 0], [2, 0], [2, 9], [2, 9], [4, 99], [4, 9], [2, 7]).toString('latin1');
  for (const comment of ['made by hand', 'x'.repeat(65535), `${end}more than seven`]) {
    assert.equal(await contentOf(archive([{ name: 'a.jpg', content: 'there' }], { comment })), 'there');
  }
});

test('what stands before the archive is passed over', async () => {
  for (const zip64 of [false, true]) {
    assert.equal(await contentOf(archive([{ name: 'a.jpg', content: 'there', deflate: true }], { before: 'a program that unpacks', zip64 })), 'there');
  }
});

test('ZIP64: the end of the directory, and sizes and offsets in the extra field', async () => {
  const blob = archive([{ name: 'a.jpg', content: 'one', zip64: true }, { name: 'b.jpg', content: 'two, deflated', deflate: true, zip64: true }], { zip64: true });
  const [a, b] = await entries(blob);
  assert.deepEqual([a.size, a.compressed, b.size], [3, 3, 13]);
  assert.deepEqual([await (await open(blob, a)).text(), await (await open(blob, b)).text()], ['one', 'two, deflated']);
});

test('the directory of 70,000 entries is read at once, and nothing else of the file', async () => {
  const files = Array.from({ length: 70_000 }, (_, number) => ({ name: `faces/part-${number % 7}/${number}.jpg`, content: 'x' }));
  const blob = archive(files, { zip64: true });
  let read = [];
  const counting = { size: blob.size, slice: (start, end, type) => {
    read.push(end - start);
    return blob.slice(start, end, type);
  } };
  const found = await entries(counting);
  assert.equal(found.length, 70_000);
  assert.ok(read.length <= 4, `${read.length} parts`);
  // The file has local headers and contents beside its directory; what looks for the end reads 64 KiB of it again.
  assert.ok(read.reduce((sum, bytes) => sum + bytes) < 0.75 * blob.size, `${read} of ${blob.size} bytes`);
  read = [];
  assert.equal(await (await open(counting, found[69_999])).text(), 'x');
  assert.deepEqual(read, [30, 1]);
});

test('names are UTF-8 where they are that, else code page 437, or what stands beside them in UTF-8', async () => {
  const dos = Buffer.from([0x81, 0x2e, 0x6a, 0x70, 0x67]);
  const beside = (crc) => {
    const path = utf8('ü-beside.jpg');
    return Buffer.concat([record(9, [2, 0x7075], [2, 5 + path.length], [1, 1], [4, crc]), path]);
  };
  const files = [{ name: 'ü.jpg', flags: 0x800 }, { name: 'é.jpg' }, { name: dos }];
  assert.deepEqual(await names(archive(files)), ['ü.jpg', 'é.jpg', 'ü.jpg']);
  // Each in an archive of its own, as no two entries may have one name.
  assert.deepEqual(await names(archive([{ name: dos, extra: beside(crc32(dos)) }])), ['ü-beside.jpg']);
  assert.deepEqual(await names(archive([{ name: dos, extra: beside(1) }])), ['ü.jpg']);
});

test('what the server refuses an archive for is refused', async () => {
  await refused(entries(archive([{ name: 'a.jpg' }, { name: 'notes.txt', flags: 1 }])), /"notes\.txt" is encrypted/);
  assert.deepEqual(await names(archive([{ name: 'a.jpg' }, { name: '__MACOSX/a.jpg', flags: 1 }])), ['a.jpg']);
  for (const name of ['../a.jpg', '/etc/a.jpg', 'x/../../a.jpg', 'C:/a.jpg', '..\\a.jpg']) {
    await refused(entries(archive([{ name }])), /leads out of the archive/);
  }
  await refused(entries(archive([{ name: 'a.jpg', mode: 0o120777 }])), /symbolic link/);
  for (const name of ['a.jpg', 'notes.txt', '.h.jpg']) await refused(entries(archive([{ name }, { name: 'b.jpg' }, { name }])), /several entries/);
  // One image that is packed otherwise is enough; of other files nothing is read.
  for (const method of [9, 12, 14]) {
    await refused(entries(archive([{ name: 'a.jpg' }, { name: 'f/b.jpg', method }])), new RegExp(`"f/b\\.jpg" is packed by method ${method},`));
    assert.deepEqual(await names(archive([{ name: 'a.jpg' }, { name: 'b.txt', method }, { name: '@eaDir/a.jpg', method }])), ['a.jpg']);
  }
});

test('what is there twice and is nobody’s, or has only nearly one name, is no hindrance', async () => {
  const twice = ['f/', 'f/', '__MACOSX/a.jpg', '__MACOSX/a.jpg', 'f/Thumbs.db', 'f/Thumbs.db'];
  assert.deepEqual(await names(archive([...twice, 'a.jpg', './a.jpg', 'A.jpg'].map((name) => ({ name })))), ['a.jpg', './a.jpg', 'A.jpg']);
});

test('what is no archive, or not all of one, says so', async () => {
  await refused(entries(new Blob(['a picture, maybe'])), /no ZIP/);
  await refused(entries(new Blob([])), /no ZIP/);
  const whole = archive([{ name: 'a.jpg', content: 'x'.repeat(500) }, { name: 'b.jpg', content: 'y'.repeat(500) }]);
  for (const end of [4, 200, whole.size - 100, whole.size - 1]) await refused(entries(whole.slice(0, end)), /cut off/);
  await refused(entries(whole.slice(300)), /cut off/);
});

test('an entry that cannot be unpacked says why', async () => {
  const one = (file) => archive([{ name: 'a.jpg', ...file }]);
  await refused(contentOf(one({ method: 14 })), /method 14.*“deflate”/);
  await refused(contentOf(one({ content: 'not deflated at all', method: 8 })), /"a\.jpg" cannot be inflated/);
  await refused(contentOf(one({ content: 'x'.repeat(99), deflate: true, size: 50 })), /more than its declared size/);
  await refused(contentOf(one({ content: 'x'.repeat(99), deflate: true, size: 100 })), /less than its declared size/);
  const blob = one({ content: 'abc' });
  const entry = await first(blob);
  await refused(open(blob, { ...entry, offset: 5 }), /not where its directory says/);
  await refused(open(blob, { ...entry, compressed: 9999, size: 9999 }), /cut off/);
  await refused(open(blob, { ...entry, flags: 1 }), /encrypted/);
});

test('paths are compared as the server does', () => {
  assert.equal(normalisedPath('.\\faces\\e\u0301.jpg'), 'faces/\u00e9.jpg');
  assert.equal(normalisedPath('././a.jpg'), 'a.jpg');
});

test('an image is too large by its pixels, its sides and its bytes, as the server has it', () => {
  const reason = (naturalWidth, naturalHeight, size = 1000, max_pixels = 50_000_000) => tooLarge({ size }, { naturalWidth, naturalHeight }, { max_pixels });
  assert.equal(reason(10_000, 5000), null);
  assert.match(reason(10_000, 5001), /^10000 × 5001 pixels, and this server takes 50000000: .*--max-pixels/);
  assert.match(reason(16_385, 10), /16384 a side/);
  assert.equal(reason(10, 10, 25 * 2 ** 20), null);
  assert.match(reason(10, 10, 25 * 2 ** 20 + 1), /25\.0 MiB of an image/);
  assert.equal(reason(10, 10, 50_000_000, 100_000_000), null, 'half as many as pixels');
  assert.equal(tooLarge({ size: 1e9 }, { naturalWidth: 1e5, naturalHeight: 1e5 }, {}), null, 'a server that does not say');
});
