"use strict";
// The recogniser: frames { height, width, channels, pixels } -> answer. As frames.py and run.py do it, number by number.
const SHORT_SIDE = 256, ROWS = 24, COLUMNS = 32, OUTSIDE = 0.01, NOISE = 6, ROUNDING = 0.28;
const far = (x) => ((-0.5 * x + 2.5) * x - 4) * x + 2;
const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? far(x) : 0);
const KERNELS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => cubic(Math.abs(x))],
};

// For each place of a resized line: the first place of the old one that counts, and the shares, in whole numbers.
function shares(size, out, kernel, bits) {
  const [radius, weight] = KERNELS[kernel];
  const scale = size / out, wide = Math.max(scale, 1), lines = [];
  for (let i = 0; i < out; i++) {
    const centre = scale * (i + 0.5);
    const first = Math.max(Math.trunc(centre - radius * wide + 0.5), 0);
    const last = Math.min(Math.trunc(centre + radius * wide + 0.5), size);
    const values = [];
    for (let tap = first; tap < last; tap++) values.push(weight((tap - centre + 0.5) * (1 / wide)));
    const total = values.reduce((sum, value) => sum + value, 0);
    lines.push({ first, values: values.map((value) => value / total) });
  }
  const largest = Math.max(...lines.flatMap((line) => line.values));
  let exact = bits || 0;
  while (!bits && Math.trunc(0.5 + largest * 2 ** (exact + 1)) < 2 ** 15 && exact < 21) exact++;
  const whole = (value) => Math.trunc(value * 2 ** exact + (value < 0 ? -0.5 : 0.5));
  return { exact, lines: lines.map(({ first, values }) => ({ first, values: values.map(whole) })) };
}

// Resize in whole numbers, first across, then down.
function resized(picture, height, width, kernel, bits) {
  for (const across of [true, false]) {
    const { channels } = picture;
    const [size, out] = across ? [picture.width, width] : [picture.height, height];
    if (size === out) continue;
    const { exact, lines } = shares(size, out, kernel, bits);
    const [rows, columns] = across ? [picture.height, out] : [out, picture.width];
    const step = across ? channels : picture.width * channels;
    const pixels = new Uint8ClampedArray(rows * columns * channels);
    const half = 2 ** (exact - 1);
    for (let row = 0, to = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const { first, values } = lines[across ? column : row];
        const from = across ? (row * picture.width + first) * channels : (first * picture.width + column) * channels;
        for (let channel = 0; channel < channels; channel++, to++) {
          let total = half;
          for (let tap = 0; tap < values.length; tap++) total += picture.pixels[from + channel + tap * step] * values[tap];
          pixels[to] = total >> exact;
        }
      }
    picture = { height: rows, width: columns, channels, pixels };
  }
  return picture;
}

function toShortSide(picture, side, kernel) {
  const short = Math.min(picture.height, picture.width);
  const [height, width] = [picture.height, picture.width].map((length) => Math.trunc((side * length) / short));
  return resized(picture, height, width, kernel);
}

const shrunk = (picture) => (Math.min(picture.height, picture.width) > SHORT_SIDE ? toShortSide(picture, SHORT_SIDE, "bilinear") : picture);

function smallGrey({ height, width, pixels }) {
  const grey = new Uint8ClampedArray(height * width);
  for (let i = 0; i < grey.length; i++)
    grey[i] = (19595 * pixels[3 * i] + 38470 * pixels[3 * i + 1] + 7471 * pixels[3 * i + 2] + 32768) >> 16;
  return resized({ height, width, channels: 1, pixels: grey }, ROWS, COLUMNS, "box", 22).pixels;
}

// ---------------------------------------------------------------------- motion

// The difference of two small pictures that no shift, zoom or change of light explains.
function unexplained(before, after) {
  const at = (row, column) => (before[row * COLUMNS + column] + after[row * COLUMNS + column]) / 2;
  const slope = (get, i, count) => (i === 0 ? get(1) - get(0) : i === count - 1 ? get(i) - get(i - 1) : (get(i + 1) - get(i - 1)) / 2);
  const causes = [], target = [];
  for (let row = 0; row < ROWS; row++)
    for (let column = 0; column < COLUMNS; column++) {
      const down = slope((i) => at(i, column), row, ROWS), across = slope((i) => at(row, i), column, COLUMNS);
      const zoom = across * (-1 + (2 * column) / (COLUMNS - 1)) + down * (-1 + (2 * row) / (ROWS - 1));
      causes.push([across, down, zoom, 1, at(row, column)]);
      target.push(after[row * COLUMNS + column] - before[row * COLUMNS + column]);
    }
  const sums = [...Array(5)].map(() => Array(5).fill(0)), right = Array(5).fill(0);
  causes.forEach((cause, i) => {
    for (let a = 0; a < 5; a++) {
      right[a] += cause[a] * target[i];
      for (let b = 0; b < 5; b++) sums[a][b] += cause[a] * cause[b];
    }
  });
  const strengths = leastSquares(sums, right);
  return target.map((value, i) => Math.abs(value - causes[i].reduce((sum, cause, a) => sum + cause * strengths[a], 0)));
}

// The shortest solution of a symmetric system, by Jacobi's rotations.
function leastSquares(matrix, right) {
  const n = right.length, a = matrix.map((row) => [...row]);
  const v = a.map((_, i) => a.map((_, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 30; sweep++)
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (a[p][q] === 0) continue;
        const angle = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (angle < 0 ? -1 : 1) / (Math.abs(angle) + Math.hypot(angle, 1)), c = 1 / Math.hypot(t, 1), s = t * c;
        for (let k = 0; k < n; k++) [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
        for (let k = 0; k < n; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
        for (let k = 0; k < n; k++) [v[k][p], v[k][q]] = [c * v[k][p] - s * v[k][q], s * v[k][p] + c * v[k][q]];
      }
  const values = a.map((row, i) => row[i]), least = 1e-15 * Math.max(...values.map(Math.abs));
  const solved = Array(n).fill(0);
  for (let i = 0; i < n; i++) {
    if (Math.abs(values[i]) <= least) continue;
    const share = v.reduce((sum, row, k) => sum + row[i] * right[k], 0) / values[i];
    for (let k = 0; k < n; k++) solved[k] += v[k][i] * share;
  }
  return solved;
}

function quantile(values, share) {
  const sorted = [...values].sort((x, y) => x - y), place = share * (sorted.length - 1), below = Math.floor(place);
  return sorted[below] + (place - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

// Numbers of the frames to encode: even in time, or by motion, which has this weight beside time. `left`: what `unexplained` gives for each frame and the one after.
function chosen(left, frames, count, weight) {
  const even = [...Array(count)].map((_, i) => Math.min(Math.trunc(((i + 0.5) * frames) / count), frames - 1));
  if (weight === null || frames <= count) return even;
  const noise = NOISE * Math.max(quantile(left.map((each) => quantile(each, 0.5)), 0.25), ROUNDING);
  let energy = left.map((each) => sum(each.map((value) => Math.max(value - noise, 0))) / each.length);
  let cap = Math.max(...energy);
  for (let i = 0; i < 50; i++) cap = Math.min(cap, sum(energy.map((value) => Math.min(value, cap))) / count);
  energy = energy.map((value) => Math.min(value, cap));
  const total = 2 * sum(energy), moved = [0];
  if (total <= 0) return even;
  for (let i = 0; i < frames; i++) moved.push(moved[i] + ((energy[i] || 0) + (energy[i - 1] || 0)) / total);
  const [first, last] = [OUTSIDE, 1 - OUTSIDE].map((share) => {
    const known = moved.map((value, i) => value + 1e-9 * i), after = known.findIndex((value) => value > share);
    return after - 1 + (share - known[after - 1]) / (known[after] - known[after - 1]);
  });
  const time = moved.map((_, i) => Math.min(Math.max((i - first) / (last - first), 0), 1));
  const passed = moved.map((value, i) => (1 - weight) * time[i] + weight * value);
  return [...Array(count)].map((_, i) => {
    const place = passed.findIndex((value) => value > (i + 0.5) / count);
    return Math.min(Math.max(place < 0 ? frames : place, 1), frames) - 1;
  });
}

// ---------------------------------------------------------------------- encoder, matcher

class Recogniser {
  static async load(small) {
    const made = new Recogniser(), base = document.baseURI;
    ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", base).href;
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = 1; // several need headers that a plain server does not send
    made.settings = await (await fetch(new URL("recogniser.json", base))).json();
    made.encoder = await ort.InferenceSession.create(new URL(small ? "encoder.int8.onnx" : "encoder.onnx", base).href);
    made.matcher = await ort.InferenceSession.create(new URL("matcher.onnx", base).href);
    return made;
  }

  // One frame as the encoder takes it: [rgb, height, width], normalised.
  input(frame) {
    const { size, resize, squeeze, interpolation, mean, std } = this.settings.clip;
    const picture = squeeze ? resized(frame, resize, resize, interpolation) : toShortSide(frame, resize, interpolation);
    const [top, left] = [picture.height, picture.width].map((length) => {
      const half = Math.floor((length - size) / 2); // an odd rest goes to the even side, as Python rounds
      return (length - size) % 2 === 0 ? half : half + (half % 2);
    });
    const made = new Float32Array(3 * size * size);
    for (let channel = 0, to = 0; channel < 3; channel++)
      for (let row = 0; row < size; row++)
        for (let column = 0; column < size; column++, to++) {
          const value = picture.pixels[((top + row) * picture.width + left + column) * 3 + channel];
          made[to] = (value / 255 - mean[channel]) / std[channel];
        }
    return made;
  }

  // One frame -> its parts of the encoding, each with a first axis of 1.
  async encode(frame) {
    const { size } = this.settings.clip;
    return this.encoder.run({ images: new ort.Tensor("float32", this.input(frame), [1, 3, size, size]) });
  }

  // Encoded frames of one clip -> answer.
  async match(frames) {
    const parts = {};
    for (const name of this.matcher.inputNames) {
      const dims = frames[0][name].dims, length = frames[0][name].data.length;
      const data = new Float32Array(length * frames.length);
      frames.forEach((frame, i) => data.set(frame[name].data, i * length));
      parts[name] = new ort.Tensor("float32", data, [frames.length, ...dims.slice(1)]);
    }
    const { logits, score } = await this.matcher.run(parts);
    return this.answer([...logits.data], score.data[0]);
  }

  answer(logits, score) {
    const { actions, scale, thresholds, steepness, floor, doubt } = this.settings;
    const largest = Math.max(...logits), best = actions[logits.indexOf(largest)];
    const threshold = best in thresholds ? thresholds[best] : null;
    let unknown = null;
    if (threshold !== null && steepness !== null) {
      const odds = floor === null ? score - threshold : Math.log(Math.max(score, floor) / threshold);
      const known = Math.exp(steepness * odds);
      unknown = 1 / (1 + (known >= 1 ? known : known + doubt * (1 - known)));
    }
    const powers = logits.map((logit) => Math.exp(scale * (logit - largest))), total = sum(powers);
    const probabilities = {};
    actions.forEach((action, i) => (probabilities[action] = ((1 - (unknown || 0)) * powers[i]) / total));
    if (unknown !== null) probabilities.unknown = unknown;
    const action = threshold === null || score >= threshold ? best : "unknown";
    return { action, best, probabilities, score, threshold };
  }

  // All frames of a clip, as decoded -> answer.
  async predict(pictures) {
    const { frames: count, motion } = this.settings.clip;
    const frames = pictures.map(shrunk), greys = motion !== null ? frames.map(smallGrey) : [];
    const left = greys.slice(1).map((grey, i) => unexplained(greys[i], grey));
    const encoded = [];
    for (const i of chosen(left, frames.length, count, motion)) encoded.push(await this.encode(frames[i]));
    return this.match(encoded);
  }
}
