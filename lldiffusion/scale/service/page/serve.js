"use strict";

const $ = (id) => document.getElementById(id);
let file = null; // what was dropped
let result = null; // what came back last
let token = ""; // in memory only
let running = null; // the AbortController of the request under way
let addresses = []; // of pictures in memory, let go of when others come

function say(line, failed = false) {
  $("state").textContent = line;
  $("state").classList.toggle("failed", failed);
}

function address(blob) {
  const made = URL.createObjectURL(blob);
  addresses.push(made);
  return made;
}

function forget() {
  addresses.forEach(URL.revokeObjectURL);
  addresses = [];
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) $("token-form").hidden = false;
  const told = await answer.json().catch(() => ({ error: answer.statusText }));
  throw new Error(told.error);
}

function wishes() {
  const asked = new URLSearchParams({ exposure: $("exposure").value });
  if ($("model").value) asked.set("model", $("model").value);
  return asked;
}

// A new wish ends the request that is under way: the service sees that nobody waits and drops it.
async function enhance() {
  if (!file) return;
  running?.abort();
  const mine = (running = new AbortController());
  $("frame").classList.add("busy");
  say("Enhancing " + file.name + " …");
  const start = performance.now();
  try {
    const clip = file.type.startsWith("video/");
    const blob = await (clip ? enhanceClip(mine.signal) : enhancePhoto(mine.signal));
    if (mine !== running) return;
    await (clip ? showClip(blob) : showPhoto(blob));
    offer(blob);
    say(`Done in ${((performance.now() - start) / 1000).toFixed(1)} s.` + $("frame").dataset.note);
  } catch (error) {
    if (mine === running) say(error.message, true);
  } finally {
    if (mine === running) $("frame").classList.remove("busy");
  }
}

async function enhancePhoto(signal) {
  const answer = await ask("/v1/enhance?" + wishes(), { method: "POST", body: file, signal });
  const notes = answer.headers.get("X-Lldiff-Notes");
  $("frame").dataset.note = notes ? ` Left out: ${notes}.` : "";
  return answer.blob();
}

async function enhanceClip(signal) {
  $("frame").dataset.note = "";
  const job = await (await ask("/v1/video?" + wishes(), { method: "POST", body: file, signal })).json();
  try {
    for (;;) {
      const now = await (await ask(job.self, { signal })).json();
      if (now.status === "failed") throw new Error(now.error);
      if (now.status === "done") break;
      say(`${now.status}: ${now.frames}` + (now.total ? ` of about ${now.total} frames` : " frames"));
      await new Promise((wake) => setTimeout(wake, 500));
    }
    return await (await ask(job.result, { signal })).blob();
  } finally {
    ask(job.self, { method: "DELETE" }).catch(() => {});
  }
}

async function showPhoto(blob) {
  const old = addresses;
  addresses = [];
  const after = $("after"), before = $("before"), frame = $("frame");
  after.src = address(blob);
  before.src = address(file);
  const [shown, compared] = await Promise.all([after, before].map((image) => image.decode().then(() => true, () => false)));
  old.forEach(URL.revokeObjectURL);
  frame.classList.toggle("alone", !compared);
  frame.hidden = !shown;
  if (!shown) frame.dataset.note += " This browser cannot show the format: download it.";
  if (shown) {
    frame.style.aspectRatio = `${after.naturalWidth} / ${after.naturalHeight}`;
    frame.style.width = `min(100%, calc(78vh * ${after.naturalWidth / after.naturalHeight}))`;
  }
  $("clip").hidden = true;
  $("work").hidden = false;
}

async function showClip(blob) {
  forget();
  $("clip").src = address(blob);
  $("clip").hidden = false;
  $("frame").hidden = true;
  $("work").hidden = false;
}

function offer(blob) {
  const link = $("download"), name = file.name.replace(/\.[^.]*$/, "");
  const suffix = blob.type.split("/")[1].replace("jpeg", "jpg").replace("quicktime", "mov").replace("x-matroska", "mkv");
  result = blob;
  link.href = address(blob);
  link.download = `${name}-bright.${suffix}`;
  link.hidden = false;
}

function take(given) {
  if (!given) return;
  file = given;
  $("exposure").value = 0;
  $("stops").textContent = "0";
  $("download").hidden = true;
  enhance();
}

async function listModels() {
  try {
    const { models, default: first } = await (await ask("/v1/models")).json();
    $("model").replaceChildren(...models.map(({ name }) => new Option(name, name, name === first, name === first)));
    $("model").parentElement.hidden = models.length < 2;
    $("token-form").hidden = true;
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

let later = 0;
$("exposure").addEventListener("input", () => {
  const stops = Number($("exposure").value);
  $("stops").textContent = (stops > 0 ? "+" : "") + stops;
  clearTimeout(later);
  later = setTimeout(enhance, 250);
});
$("edge").addEventListener("input", () => $("frame").style.setProperty("--at", $("edge").value + "%"));
$("model").addEventListener("change", enhance);
$("file").addEventListener("change", () => take($("file").files[0]));
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  listModels().then(enhance);
});
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
listModels();
