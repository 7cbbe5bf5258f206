// The page: a photo in, what the worker makes of it beside it.  document.body.dataset.state says where it stands.
const find = (id) => document.getElementById(id);
const LARGEST = 24e6; // pixels: what a browser's memory bears

let worker, pixels, name = "photo", ready = false;

function state(value, text) {
  document.body.dataset.state = value;
  find("status").textContent = text;
  const busy = value === "working";
  find("progress").hidden = find("cancel").hidden = !busy;
  find("download").disabled = value !== "done";
}

function start() {
  ready = false;
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onerror = (event) => state("failed", `This browser cannot run the model: ${event.message ?? "no module workers"}`);
  worker.onmessage = ({ data }) => answers[data.kind](data);
}

const answers = {
  ready() {
    ready = true;
    if (pixels) enhance();
    else state("ready", "Ready");
  },
  progress({ share }) {
    find("progress").value = share;
  },
  done({ image, seconds }) {
    find("after").getContext("2d").putImageData(image, 0, 0);
    state("done", `Done in ${seconds.toFixed(1)} s`);
  },
  failed({ text }) {
    state("failed", text);
  },
};

async function take(file) {
  if (!file) return;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return state("failed", `${file.name} is no picture that this browser reads: try a JPEG, PNG or WebP`);
  }
  const { width, height } = bitmap;
  if (width * height > LARGEST) {
    return state("failed", `${width}x${height} is too large: at most ${LARGEST / 1e6} million pixels`);
  }
  for (const id of ["before", "after"]) Object.assign(find(id), { width, height });
  const context = find("before").getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // transparency is laid over white
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  pixels = context.getImageData(0, 0, width, height);
  name = file.name.replace(/\.[^.]*$/, "") || "photo";
  find("after").getContext("2d").drawImage(find("before"), 0, 0);
  find("result").hidden = false;
  if (document.body.dataset.state === "working") restart();
  else if (ready) enhance();
}

function enhance() {
  if (!ready || !pixels) return;
  find("progress").value = 0;
  state("working", "Working");
  worker.postMessage({ pixels, exposure: Number(find("exposure").value) });
}

function restart() { // the only way to stop WebAssembly in the middle
  worker.terminate();
  start();
}

find("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
find("cancel").addEventListener("click", () => {
  pixels = undefined;
  find("result").hidden = true;
  state("loading", "Cancelled");
  restart();
});
find("slider").addEventListener("input", (event) => find("stage").style.setProperty("--cut", `${event.target.value}%`));
find("exposure").addEventListener("input", (event) => (find("stops").textContent = event.target.value));
find("exposure").addEventListener("change", () => (document.body.dataset.state === "working" ? restart() : enhance()));
find("download").addEventListener("click", () => {
  find("after").toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${name}.bright.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
});

state("loading", "Loading the model");
if (typeof WebAssembly === "object") start();
else state("failed", "This browser has no WebAssembly, which the model needs");
