"use strict";
// Live: what the camera shows now. One request at a time brings the newest pictures; older ones are dropped, not queued.
// Pictures are kept in this tab alone, the last seconds of them, until the camera is turned off.
const live = { name: null, wanted: null, waiting: [], recent: [], seen: [], timer: 0, asking: false, sent: Promise.resolve(), last: -1 };
const SEEN = 6; // actions that are listed

async function startLive() {
  if (!state.stream) await camera();
  if (!state.stream) return TEXTS.noCamera;
  live.wanted = await json(at("live"), { method: "POST" });
  Object.assign(live, { name: live.wanted.live, waiting: [], recent: [], seen: [], last: -1 });
  $("live-view").srcObject = state.stream;
  await $("live-view").play();
  $("live-bars").replaceChildren();
  $("live-best").textContent = TEXTS.watching;
  $("live-seen").textContent = "";
  showLiveParts(true);
  grabEvery(live.wanted.rate);
  return "";
}

function stopLive() {
  clearInterval(live.timer);
  const { name, sent } = live;
  if (!name) return;
  // After the answer that is on its way; if this fails, the service forgets the stream by itself.
  sent.then(() => ask(at("live", name), { method: "DELETE" })).catch(() => {});
  Object.assign(live, { name: null, waiting: [], recent: [] });
  $("live-view").srcObject = null;
  showLiveParts(false);
}

function showLiveParts(on) {
  $("live-answer").hidden = !on;
  $("live").textContent = on ? TEXTS.liveOff : TEXTS.live;
  $("live").setAttribute("aria-pressed", on);
}

function grabEvery(rate) {
  clearInterval(live.timer);
  live.timer = setInterval(grab, 1000 / rate);
}

const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });

// Take the picture that the camera shows, unless it was taken before.
function grab() {
  const video = $("live-view");
  if (!video.videoWidth || video.currentTime === live.last) return;
  live.last = video.currentTime;
  const scale = Math.min(1, live.wanted.side / Math.min(video.videoWidth, video.videoHeight));
  const even = (size) => 2 * Math.round((size * scale) / 2);
  const [width, height] = [even(video.videoWidth), even(video.videoHeight)];
  if (canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, { width, height });
    Object.assign(live, { waiting: [], recent: [] });
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(video, 0, 0, width, height);
  const picture = { time: performance.now() / 1000, pixels: context.getImageData(0, 0, width, height).data };
  live.waiting.push(picture);
  live.recent.push(picture);
  while (live.waiting.length > live.wanted.most) live.waiting.shift();
  while (live.recent[0].time < picture.time - live.wanted.seconds) live.recent.shift();
  if (!live.asking) live.sent = send();
}

async function send() {
  live.asking = true;
  const { name } = live;
  try {
    while (live.name === name && live.waiting.length) {
      const some = live.waiting.splice(0);
      const times = some.map((each) => each.time.toFixed(4)).join(",");
      const query = `?width=${canvas.width}&height=${canvas.height}&times=${times}`;
      const shows = await json(at("live", name) + query, { method: "POST", body: blobOf(some) });
      if (live.name === name) showLive(shows);
    }
  } catch (error) {
    if (live.name === name) {
      stopLive();
      say(error.message, true);
    }
  } finally {
    live.asking = false;
  }
}

const blobOf = (pictures) => new Blob(pictures.map((each) => each.pixels));

function showLive(shows) {
  if (shows.rate !== live.wanted.rate) grabEvery(shows.rate); // examples came or went
  Object.assign(live.wanted, shows);
  if (shows.action) {
    $("live-best").textContent = best(shows);
    $("live-best").classList.toggle("unknown", shows.action === "unknown");
    updateBars($("live-bars"), shows.probabilities);
  }
  const ended = shows.events.filter((event) => event.kind === "end").map((event) => event.action);
  if (!ended.length) return;
  live.seen = [...live.seen, ...ended].slice(-SEEN);
  $("live-seen").textContent = TEXTS.seen(live.seen.join(", "));
}

// The last seconds become an example.
async function keepLive() {
  const action = $("live-action").value.trim(), pictures = live.recent;
  if (!action) {
    $("live-action").focus();
    throw new Error(TEXTS.noAction);
  }
  const seconds = pictures.length > 1 ? pictures.at(-1).time - pictures[0].time : 0;
  if (!seconds) throw new Error(TEXTS.tooShort);
  const fps = Math.min(60, Math.max(1, (pictures.length - 1) / seconds));
  const query = `?width=${canvas.width}&height=${canvas.height}&fps=${fps.toFixed(2)}`;
  const made = await json(at("actions", action, "pixels") + query, { method: "POST", body: blobOf(pictures) });
  show(await json(at()));
  return TEXTS.enrolled(Number(made.added), action) + (made.fault ? ` ${TEXTS.fault(made.fault)}` : "");
}
