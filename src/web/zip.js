// Reads a ZIP archive that lies on the user's disk: its directory first, then single entries as they are wanted, never the
// whole file. Knows no page, so that node's tests can import it.
//
// What the server refuses an archive for by its directory (src/dataset/archive.rs) is mostly refused here too: nobody shall label an
// evening long what cannot be imported. Not looked at are how many entries there are, whether they overlap, and how much they
// inflate; images that are too large label-pictures.js finds when they are shown.

const LOCAL = 0x04034b50;
const ENTRY = 0x02014b50;
const END = 0x06054b50;
const LOCATOR_64 = 0x07064b50;
const END_64 = 0x06064b50;

const LOCAL_BYTES = 30;
const ENTRY_BYTES = 46;
const END_BYTES = 22;
const LOCATOR_BYTES = 20;
const END_64_BYTES = 56;
const MOST_COMMENT = 0xffff;
/// What stands in a field of 32 bits whose value is in the ZIP64 field.
const ELSEWHERE = 0xffffffff;

const EXTRA_64 = 0x0001;
const EXTRA_UNICODE_PATH = 0x7075;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;
const UNIX = 3;
const SYMBOLIC_LINK = 0o120000;

// What images end in, and what programs leave beside them: as in src/dataset/archive/names.rs.
const TYPES = new Map([...['jpg', 'jpeg', 'jpe', 'jfif'].map((ending) => [ending, 'image/jpeg']), ['png', 'image/png'], ['webp', 'image/webp']]);
const LITTER_FOLDERS = new Set(['__MACOSX', '@eaDir', '.@__thumb']);
const LITTER_FILES = new Set(['.DS_Store', 'Thumbs.db', 'desktop.ini']);

// The upper half of the code page that a ZIP's names are in where they are no UTF-8.
const CP437 = 'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0';
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
// One letter for each byte, and never two for one: names are told apart by their bytes.
const byByte = new TextDecoder('latin1');

/// An archive, or an entry of it, that cannot be read; the message says how to mend it.
export class ZipError extends Error {
  constructor(message) {
    super(message);
    this.title = 'The archive cannot be read';
  }
}

/// The images of an archive, in the order of its directory: `{ name, method, flags, compressed, size, offset, crc }`.
/// Folders, hidden files and what file managers leave behind are not among them. `onother` is called with the name of each other
/// file that is no image to label.
export async function entries(blob, onother = () => {}) {
  const { start, size, count, shift } = await directory(blob);
  const view = await part(blob, start, size);
  const images = [];
  const seen = new Set();
  let at = 0;
  for (let number = 0; number < count; number += 1) {
    if (at + ENTRY_BYTES > size || view.getUint32(at, true) !== ENTRY) throw damaged(`entry ${number} of its directory is none`);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const end = at + ENTRY_BYTES + nameBytes + extraBytes;
    if (end + commentBytes > size) throw damaged(`entry ${number} of its directory is cut off`);
    const entry = entryAt(view, at, nameBytes, end);
    const known = seen.size;
    seen.add(byByte.decode(nameAt(view, at, nameBytes)));
    const what = kindOf(entry, view, at, seen.size === known);
    if (what === 'image') images.push({ ...entry, offset: entry.offset + shift });
    else if (what === 'other') onother(entry.name);
    at = end + commentBytes;
  }
  if (at + 4 <= size && view.getUint32(at, true) === ENTRY) {
    throw new ZipError('The archive’s directory lists more files than its end says, as macOS writes it of more than 65535, and the server would refuse it: zip them with zip -r or 7-Zip');
  }
  return images;
}

/// The content of an entry, with its media type. One that is stored is a part of the file and is not read yet.
export async function open(blob, entry) {
  const name = JSON.stringify(entry.name);
  if (entry.flags & ENCRYPTED) throw encrypted(name);
  if (!isReadable(entry.method)) throw unreadable(name, entry.method);
  const head = await part(blob, entry.offset, LOCAL_BYTES);
  if (head.getUint32(0, true) !== LOCAL) throw damaged(`${name} is not where its directory says`);
  const start = entry.offset + LOCAL_BYTES + head.getUint16(26, true) + head.getUint16(28, true);
  const end = start + entry.compressed;
  if (end > blob.size) throw cutOff();
  const type = TYPES.get(extension(entry.name));
  if (entry.method === DEFLATED) return inflated(blob.slice(start, end), entry, type);
  if (entry.compressed !== entry.size) throw damaged(`${name} has two sizes`);
  return blob.slice(start, end, type);
}

/// A path as a sheet and an archive may both have meant it, by the server's rule.
export const normalisedPath = (path) => path.replaceAll('\\', '/').normalize('NFC').replace(/^(\.\/)+/, '');

async function inflated(packed, { name, size }, type) {
  const reader = packed.stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      // The file itself cannot be read any more: that is no fault of its content.
      if (error instanceof DOMException) throw error;
      throw damaged(`${JSON.stringify(name)} cannot be inflated`);
    });
    if (done) break;
    length += value.length;
    if (length > size) {
      reader.cancel().catch(() => {});
      throw damaged(`${JSON.stringify(name)} inflates to more than its declared size`);
    }
    parts.push(value);
  }
  if (length < size) throw damaged(`${JSON.stringify(name)} inflates to less than its declared size`);
  return new Blob(parts, { type });
}

/// Where the directory lies. `shift` is what stands before the archive in the file, which its offsets do not count.
async function directory(blob) {
  const from = Math.max(0, blob.size - END_BYTES - MOST_COMMENT - LOCATOR_BYTES);
  const tail = await part(blob, from, blob.size - from);
  const at = endRecord(tail);
  if (at < 0) throw (await beginsLikeZip(blob)) ? cutOff() : new ZipError('This is no ZIP archive: zip the images and choose that file');
  const position = from + at;
  const { disk, count, size, offset, end } = (await end64(blob, tail, at, position)) ?? {
    disk: tail.getUint16(at + 4, true), count: tail.getUint16(at + 10, true), size: tail.getUint32(at + 12, true), offset: tail.getUint32(at + 16, true), end: position,
  };
  if (disk !== 0 && disk !== 0xffff) throw new ZipError('The archive is split over several files: zip the images into one');
  if (count === 0 && size === 0) return { start: 0, size: 0, count: 0, shift: 0 };
  for (const start of [offset, end - size]) {
    // A directory before its own offset is one of which the beginning is missing.
    if (start < offset || start + size > end || size < ENTRY_BYTES) continue;
    if ((await part(blob, start, 4)).getUint32(0, true) === ENTRY) return { start, size, count, shift: start - offset };
  }
  throw cutOff();
}

/// Where the last record begins; a comment may follow it, and may hold what looks like one.
function endRecord(tail) {
  const last = tail.byteLength - END_BYTES;
  let loose = -1;
  for (let at = last; at >= 0; at -= 1) {
    if (tail.getUint32(at, true) !== END) continue;
    const comment = tail.getUint16(at + 20, true);
    if (at + comment === last) return at;
    if (loose < 0 && at + comment < last) loose = at;
  }
  return loose;
}

async function end64(blob, tail, at, position) {
  if (at < LOCATOR_BYTES || tail.getUint32(at - LOCATOR_BYTES, true) !== LOCATOR_64) return null;
  const named = large(tail, at - LOCATOR_BYTES + 8);
  // Where something stands before the archive the named place is wrong; the record is mostly right before its locator.
  for (const end of [named, position - LOCATOR_BYTES - END_64_BYTES]) {
    if (end < 0 || end + END_64_BYTES > position) continue;
    const record = await part(blob, end, END_64_BYTES);
    if (record.getUint32(0, true) !== END_64) continue;
    return { disk: record.getUint32(16, true), count: large(record, 32), size: large(record, 40), offset: large(record, 48), end };
  }
  throw damaged('the end of its directory is not where it says');
}

function entryAt(view, at, nameBytes, end) {
  const nameEnd = at + ENTRY_BYTES + nameBytes;
  const entry = {
    name: '',
    method: view.getUint16(at + 10, true),
    flags: view.getUint16(at + 8, true),
    compressed: view.getUint32(at + 20, true),
    size: view.getUint32(at + 24, true),
    offset: view.getUint32(at + 42, true),
    crc: view.getUint32(at + 16, true),
  };
  let name = nameAt(view, at, nameBytes);
  for (let extra = nameEnd; extra + 4 <= end;) {
    const [id, length] = [view.getUint16(extra, true), view.getUint16(extra + 2, true)];
    const [from, to] = [extra + 4, extra + 4 + length];
    if (to > end) break;
    if (id === EXTRA_64) widen(entry, view, from, to);
    else if (id === EXTRA_UNICODE_PATH) name = unicodePath(view, from, to, name) ?? name;
    extra = to;
  }
  entry.name = text(name);
  return entry;
}

const nameAt = (view, at, nameBytes) => new Uint8Array(view.buffer, view.byteOffset + at + ENTRY_BYTES, nameBytes);

/// Only the values that do not fit are there, in this order.
function widen(entry, view, from, to) {
  let at = from;
  for (const field of ['size', 'compressed', 'offset']) {
    if (entry[field] !== ELSEWHERE || at + 8 > to) continue;
    entry[field] = large(view, at);
    at += 8;
  }
}

/// The name in UTF-8 that stands beside one in another code page, if it is that name's.
function unicodePath(view, from, to, name) {
  if (to - from < 6 || view.getUint8(from) !== 1 || view.getUint32(from + 1, true) !== crc32(name)) return null;
  return new Uint8Array(view.buffer, view.byteOffset + from + 5, to - from - 5);
}

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/// As the server reads names: UTF-8 where they are that, whatever their flag says.
function text(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    return Array.from(bytes, (byte) => (byte < 0x80 ? String.fromCharCode(byte) : CP437[byte - 0x80])).join('');
  }
}

/// Whether an entry is an image to label, another file, or nothing of anybody's; throws where the server would refuse the whole archive
/// because of it. `repeated`: an entry before has the very same name.
function kindOf({ name, flags, method }, view, at, repeated) {
  const system = view.getUint8(at + 5);
  const link = system === UNIX && ((view.getUint32(at + 38, true) >>> 16) & SYMBOLIC_LINK) === SYMBOLIC_LINK;
  const escapes = /^[/\\]|^[\0-\x7f]:|\0/.test(name) || name.split(/[/\\]/).includes('..');
  if (link || escapes) {
    throw new ZipError(`The archive’s entry ${JSON.stringify(name)} ${link ? 'is a symbolic link' : 'leads out of the archive'}, and the server would refuse it: pack plain files in plain folders`);
  }
  const path = normalisedPath(name);
  const parts = path.split('/');
  const folders = parts.slice(0, -1);
  const base = parts.at(-1);
  if (base === '' || folders.some((folder) => LITTER_FOLDERS.has(folder)) || LITTER_FILES.has(base)) return 'nothing';
  if (repeated) {
    throw new ZipError(`The archive has several entries ${JSON.stringify(name)}, of which one alone can be read: give each file a name of its own, or unzip it and zip the files anew`);
  }
  if (flags & ENCRYPTED) throw encrypted(JSON.stringify(name));
  if (parts.some((one) => one.startsWith('.') && one !== '.')) return 'nothing';
  if (!TYPES.has(extension(path))) return 'other';
  if (!isReadable(method)) throw unreadable(JSON.stringify(name), method);
  return 'image';
}

const isReadable = (method) => method === STORED || method === DEFLATED;

/// An image's path less its extension, by the server's rule; undefined where it has none of an image's.
export const withoutExtension = (path) => (TYPES.has(extension(path)) ? path.slice(0, path.lastIndexOf('.')) : undefined);

/// Lower case; of a name without one nothing.
export const extension = (name) => /\.([a-z0-9]+)$/i.exec(name)?.[1].toLowerCase();

async function beginsLikeZip(blob) {
  return blob.size >= 4 && (await part(blob, 0, 4)).getUint32(0, true) === LOCAL;
}

async function part(blob, start, length) {
  if (start + length > blob.size) throw cutOff();
  return new DataView(await blob.slice(start, start + length).arrayBuffer());
}

const large = (view, at) => Number(view.getBigUint64(at, true));
const damaged = (what) => new ZipError(`The archive is damaged: ${what}. Zip the images again`);
const cutOff = () => new ZipError('The archive is cut off: its directory leads beyond what is there. Copy or download it again, or zip the images again');
const unreadable = (name, method) => new ZipError(`${name} is packed by method ${method}, which is neither “store” nor “deflate”: zip the images with one of these`);
const encrypted = (name) => new ZipError(`The archive’s entry ${name} is encrypted: zip the images without a password`);
