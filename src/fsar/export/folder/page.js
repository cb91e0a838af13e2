"use strict";
// What the camera shows now. Each picture is encoded once; windows of all lengths share the encodings.
const $ = (id) => document.getElementById(id);
const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const view = $("view");
let recogniser = null, stream = null;

async function start() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
  } catch (error) {
    $("status").textContent = `No camera: ${error.message}. Allow it, and open this page from http://localhost or https.`;
    return;
  }
  view.srcObject = stream;
  await view.play();
  $("camera").textContent = "Turn the camera off";
  await watch(stream);
}

function stop() {
  stream.getTracks().forEach((track) => track.stop());
  stream = view.srcObject = null;
  $("camera").textContent = "Turn the camera on";
  $("best").textContent = "";
  $("bars").replaceChildren();
}

// Take the picture that the camera shows now.
function grab() {
  const scale = Math.min(1, SHORT_SIDE / Math.min(view.videoWidth, view.videoHeight));
  const [width, height] = [view.videoWidth, view.videoHeight].map((side) => Math.round(side * scale));
  Object.assign(canvas, { width, height });
  context.imageSmoothingQuality = "high";
  context.drawImage(view, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8ClampedArray(3 * width * height);
  for (let i = 0, to = 0; i < data.length; i++) if (i % 4 < 3) pixels[to++] = data[i];
  return { height, width, channels: 3, pixels };
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

async function watch(mine) {
  const { windows, rate, clip } = recogniser.settings;
  const lengths = windows || [2], period = 1 / (rate || 12), ring = [];
  let taken = -1, spent = 0;
  while (stream === mine) {
    const now = performance.now() / 1000;
    if (!view.videoWidth || view.currentTime === taken || (ring.length && now - ring.at(-1).time < 0.75 * period)) {
      await pause(0.01);
      continue;
    }
    taken = view.currentTime;
    const frame = grab(), grey = clip.motion !== null ? smallGrey(frame) : null;
    const left = grey && ring.length ? unexplained(ring.at(-1).grey, grey) : null;
    ring.push({ time: now, grey, left, parts: await recogniser.encode(frame) });
    while (ring[0].time < now - lengths.at(-1) - 2 * period) ring.shift();
    const found = [];
    for (const length of lengths) {
      const some = ring.filter((each) => each.time > now - length);
      if (now - ring[0].time < 0.9 * length || some.length < 2) continue;
      const numbers = chosen(some.slice(1).map((each) => each.left), some.length, clip.frames, clip.motion);
      found.push(await recogniser.match(numbers.map((i) => some[i].parts)));
    }
    spent = 0.9 * spent + 0.1 * (performance.now() / 1000 - now);
    if (stream !== mine) return;
    $("status").textContent = `${(1000 * spent).toFixed(0)} ms per picture`;
    if (found.length) show(found.reduce((first, second) => (surest(second) > surest(first) ? second : first)));
    await pause(0);
  }
}

const surest = (answer) => answer.probabilities[answer.best];

function show({ action, probabilities }) {
  if ($("best").textContent !== action) $("best").textContent = action;
  $("best").classList.toggle("unknown", action === "unknown");
  const names = Object.keys(probabilities), bars = $("bars");
  if (!bars.children.length)
    for (const name of names) {
      const label = document.createElement("span"), meter = document.createElement("meter"), number = document.createElement("span");
      label.textContent = name;
      meter.setAttribute("aria-label", name);
      bars.append(label, meter, number);
    }
  names.forEach((name, i) => {
    bars.children[3 * i + 1].value = probabilities[name];
    bars.children[3 * i + 2].textContent = `${(100 * probabilities[name]).toFixed(0)} %`;
  });
}

$("camera").addEventListener("click", () => (stream ? stop() : start()));
Recogniser.load(new URLSearchParams(location.search).has("int8")).then(
  (loaded) => {
    recogniser = loaded;
    $("camera").disabled = false;
    $("status").textContent = `Knows ${loaded.settings.actions.join(", ")}.`;
  },
  (error) => ($("status").textContent = `The recogniser cannot be loaded: ${error.message}. Serve this folder: python -m http.server`),
);
