// The model: level of the whole picture, then overlapping tiles, each told its place, blended where they meet.
import * as ort from "./runtime/ort.wasm.min.mjs";

const [ROWS, COLUMNS] = [64, 96]; // of a thumbnail, as lldiffusion/engines/level.py
const [SIDE, BLEND, MARGIN] = [512, 64, 32]; // of tiles, in pixels; less margin than in engines/tiles.py: `tiny` needs no more
const OVERLAP = BLEND + 2 * MARGIN;
const OWN = -1000; // a level that says: make your own

let session;

function tensor(values, ...shape) {
  return new ort.Tensor("float32", values, shape);
}

function run(image, window, level, exposure) {
  const feeds = { image, window: tensor(Float32Array.from(window), 1, 4), exposure: tensor(Float32Array.of(exposure), 1) };
  return session.run({ ...feeds, level: level ?? own() });
}

function own() {
  const [, ...sizes] = session.inputMetadata.find(({ name }) => name === "level").shape;
  return tensor(new Float32Array(sizes.reduce((a, b) => a * b)).fill(OWN), 1, ...sizes);
}

/** Exact area averages of the picture, (1, 3, 64, 96) in [0, 1]. */
function thumbnail({ data, width, height }) {
  const rows = new Float64Array(3 * ROWS * width);
  for (let y = 0; y < height; y++) {
    for (const [part, share] of parts(y, height, ROWS)) {
      for (let x = 0, at = 4 * y * width; x < width; x++, at += 4) {
        for (let c = 0; c < 3; c++) rows[(c * ROWS + part) * width + x] += share * data[at + c];
      }
    }
  }
  const small = new Float32Array(3 * ROWS * COLUMNS);
  for (let x = 0; x < width; x++) {
    for (const [part, share] of parts(x, width, COLUMNS)) {
      for (let line = 0; line < 3 * ROWS; line++) small[line * COLUMNS + part] += (share * rows[line * width + x]) / 255;
    }
  }
  return tensor(small, 1, 3, ROWS, COLUMNS);
}

/** [part, share of its mean] for each of `count` equal parts of `size` pixels that pixel `at` lies in. */
function parts(at, size, count) {
  const found = [];
  for (let part = Math.floor((at * count) / size); part < count && part * size < (at + 1) * count; part++) {
    const inside = Math.min((part + 1) * size, (at + 1) * count) - Math.max(part * size, at * count);
    if (inside > 0) found.push([part, inside / size]);
  }
  return found;
}

function starts(length) {
  if (length <= SIDE) return [0];
  const count = Math.ceil((length - OVERLAP) / (SIDE - OVERLAP));
  return Array.from({ length: count }, (_, i) => Math.round((i * (length - SIDE)) / (count - 1)));
}

/** Weight of each pixel of a tile's side: none in the margin, rising over the blend, 1 beyond; inner sides only. */
function ramp(start, size, length) {
  const slope = (from) => Math.min(Math.max((from + 0.5 - MARGIN) / BLEND, 0), 1) || 1e-6;
  return Float32Array.from({ length: size }, (_, i) => {
    return (start > 0 ? slope(i) : 1) * (start + size < length ? slope(size - 1 - i) : 1);
  });
}

function cut({ data, width }, top, left, tall, wide) {
  const values = new Float32Array(3 * tall * wide);
  for (let y = 0; y < tall; y++) {
    for (let x = 0, at = 4 * ((top + y) * width + left); x < wide; x++, at += 4) {
      for (let c = 0; c < 3; c++) values[(c * tall + y) * wide + x] = data[at + c] / 255;
    }
  }
  return tensor(values, 1, 3, tall, wide);
}

async function enhance(picture, exposure) {
  const { width, height } = picture;
  const { level_of_image: level } = await run(thumbnail(picture), [0, 0, 1, 1], undefined, 0);
  const sum = new Float32Array(3 * width * height), weight = new Float32Array(width * height);
  const places = starts(height).flatMap((top) => starts(width).map((left) => [top, left]));
  for (const [number, [top, left]] of places.entries()) {
    const [tall, wide] = [Math.min(SIDE, height), Math.min(SIDE, width)];
    const window = [top / height, left / width, (top + tall) / height, (left + wide) / width];
    const { enhanced } = await run(cut(picture, top, left, tall, wide), window, level, exposure);
    const [down, along] = [ramp(top, tall, height), ramp(left, wide, width)];
    for (let y = 0; y < tall; y++) {
      for (let x = 0, at = (top + y) * width + left; x < wide; x++, at++) {
        const share = down[y] * along[x];
        weight[at] += share;
        for (let c = 0; c < 3; c++) sum[3 * at + c] += share * enhanced.data[(c * tall + y) * wide + x];
      }
    }
    postMessage({ kind: "progress", share: (number + 1) / places.length });
  }
  const image = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    for (let c = 0; c < 3; c++) image.data[4 * at + c] = Math.floor((255 * sum[3 * at + c]) / weight[at] + 0.5);
    image.data[4 * at + 3] = 255;
  }
  return image;
}

onmessage = async ({ data }) => {
  try {
    const start = performance.now();
    const image = await enhance(data.pixels, data.exposure);
    postMessage({ kind: "done", image, seconds: (performance.now() - start) / 1000 });
  } catch (error) {
    postMessage({ kind: "failed", text: `The picture could not be enhanced: ${error.message ?? error}` });
  }
};

try {
  ort.env.wasm.wasmPaths = new URL("runtime/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
  ort.env.logLevel = "error"; // optional inputs are meant
  session = await ort.InferenceSession.create(new URL("model.onnx", import.meta.url).href, { executionProviders: ["wasm"] });
  postMessage({ kind: "ready" });
} catch (error) {
  postMessage({ kind: "failed", text: `The model could not be loaded: ${error.message ?? error}` });
}
