// Numbers, times and names as people read them.

const NONE = '–';
const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function count(value) {
  return value == null ? NONE : grouped.format(value);
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/// A number with so many decimals, as the server writes it in cards and reports: what lies in the very middle of two has the even one,
/// where `toFixed` takes the larger. What rounds to nothing has no sign.
export function fixed(value, digits) {
  // In the middle of two lie odd multiples of 1/2^(digits + 1) alone: another half of a decimal is no double.
  const isMiddle = Math.abs(value * 2 ** (digits + 1)) % 2 === 1;
  const text = value.toFixed(digits);
  const isOdd = Number(text.at(-1)) % 2 === 1;
  const rounded = isMiddle && isOdd ? (value - Math.sign(value) * 10 ** -(digits + 1)).toFixed(digits) : text;
  return Number(rounded) === 0 ? rounded.replace('-', '') : rounded;
}

/// A share in points of a hundred.
export const points = (share) => fixed(share * 100, 1);

/// A difference of two shares in points, with its sign.
export function signedPoints(difference) {
  const text = points(difference);
  return Number(text) > 0 ? `+${text}` : text;
}

/// A share as a percentage, with a narrow no-break space.
export function percent(value, digits = 1) {
  return value == null ? NONE : `${fixed(value * 100, digits)}\u202f%`;
}

/// A share; given the values of an axis, with as many digits as tell them apart.
export function share(value, axis) {
  return percent(value, axis ? digitsOf(axis.map((tick) => tick * 100)) : 1);
}

function digitsOf(values) {
  return [0, 1, 2].find((digits) => values.every((value) => Math.abs(value - Number(value.toFixed(digits))) < 1e-6)) ?? 3;
}

export function score(value) {
  return value == null ? NONE : fixed(value, 3);
}

/// About four significant digits, without the noise of a double.
export function number(value) {
  if (value == null || !Number.isFinite(value)) return NONE;
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1000 ? 5 : 4)));
}

/// Whether a whole number may be another than the one that was sent: from 2^53 on JavaScript knows only some of them, and
/// a seed may be any up to 2^63.
export const inexact = (value) => Number.isInteger(value) && !Number.isSafeInteger(value);

/// A value as it is; of one that may be another, what is known.
export const exactly = (value) => (inexact(value) ? '≥ 2^53' : String(value));

export function rate(value) {
  if (value == null) return NONE;
  return `${value >= 100 ? count(value) : value.toFixed(1)} images/s`;
}

export function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, '0')} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, '0')} min` : `${Math.round(hours / 24)} days`;
}

export function milliseconds(value) {
  if (value == null) return NONE;
  return value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

/// The whole number that a text is in digits alone, or NaN: 12.000 is twelve to JavaScript, and twelve thousand to many.
export const whole = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : NaN);

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export function when(time) {
  if (!time) return NONE;
  const date = new Date(time);
  const day = date.toDateString() === new Date().toDateString() ? {} : { day: 'numeric', month: 'short' };
  if (date.getFullYear() !== new Date().getFullYear()) day.year = 'numeric';
  return date.toLocaleString('en-GB', { ...day, hour: '2-digit', minute: '2-digit' });
}

export function clock(time) {
  return new Date(time).toLocaleTimeString('en-GB');
}

/// How long a job was worked on, in all attempts; until now while it runs. A sweep: from its first start to its end.
export function elapsed(job) {
  if (!job.started_at) return null;
  const end = job.finished_at ? new Date(job.finished_at) : new Date();
  const attempt = (end - new Date(job.started_at)) / 1000;
  if (job.seconds === undefined) return attempt;
  return job.state === 'running' ? job.seconds + attempt : job.seconds;
}

export const ALGORITHMS = { mixmatch: 'MixMatch', supervised: 'Supervised' };

export function algorithm(job) {
  const name = ALGORITHMS[job.algorithm] ?? job.algorithm;
  return job.algorithm === 'mixmatch' && job.config.mixup === false ? `${name}, no mixup` : name;
}

export function labels(job) {
  return job.config.labelled == null ? 'all labels' : plural(job.config.labelled, 'label');
}

export function jobTitle(job) {
  return `${algorithm(job)} on ${job.dataset.name}`;
}

/// The last digits of a UUID v7: its first ones are the time, alike for all of a day.
export function shortId(id) {
  return id.slice(-6);
}
