// Axis arithmetic, free of any drawing.

/// Round numbers that cover `low` to `high`, about `wanted` of them.
export function ticks(low, high, wanted) {
  const step = niceStep((high - low) / Math.max(1, wanted));
  const first = Math.ceil(low / step - 1e-9);
  const list = [];
  for (let i = first; i * step <= high + step * 1e-9; i += 1) list.push(Number((i * step).toPrecision(12)));
  return list;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const share = rough / power;
  const nice = share <= 1 ? 1 : share <= 2 ? 2 : share <= 2.5 ? 2.5 : share <= 5 ? 5 : 10;
  return nice * power;
}

/// The range of an axis: round ends around the values, within `bounds` where those are given.
export function domain(values, { zero = false, bounds } = {}) {
  // A loop: a long run has more values than a call may have arguments.
  let low = zero ? 0 : Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!Number.isFinite(low) || !Number.isFinite(high)) return bounds ?? [0, 1];
  if (high - low < 1e-12) {
    const room = Math.abs(high) * 0.1 || 1;
    low -= zero && low === 0 ? 0 : room;
    high += room;
  }
  // Rounding widens the range, and the wider range may want a wider step: twice settles it.
  for (let pass = 0; pass < 2; pass += 1) {
    const step = niceStep((high - low) / 4);
    low = Math.floor(low / step + 1e-9) * step;
    high = Math.ceil(high / step - 1e-9) * step;
  }
  return bounds ? [Math.max(low, bounds[0]), Math.min(high, bounds[1])] : [low, high];
}

/// As `linear`, by orders of magnitude: both ends must be above 0.
export function logarithmic([from, to], range) {
  const along = linear([Math.log(from), Math.log(to)], range);
  return (value) => along(Math.log(value));
}

export function linear([from, to], [start, end]) {
  const slope = to === from ? 0 : (end - start) / (to - from);
  return (value) => start + (value - from) * slope;
}
