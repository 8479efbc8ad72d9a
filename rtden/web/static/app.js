// The page of rtden. It holds no rule of its own: what is allowed, and what it means, the server says.
const $ = (id) => document.getElementById(id);
const show = (id, text) => { $(id).hidden = !text; if (text) $(id).textContent = text; };
const decibels = (value) => value === null || value === undefined ? "silence" : `${value.toFixed(0)} dB`;
const storage = sessionStorage;
let bands = 96, mostBytes = 5e8;

async function api(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    $("offline").hidden = false;
    throw new Error("rtden does not answer.");
  }
  $("offline").hidden = true;
  if (answer.status === 401) askForToken();
  if (answer.status === 204) return null;
  const found = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(found.error), { code: answer.status });
  return found;
}
const send = (path, method, value) => api(path, { method, body: JSON.stringify(value), headers: { "content-type": "application/json" } });

// -- token
function askForToken() {
  if (!$("login").open) $("login").showModal();
}
async function logIn(token) {
  try {
    await send("/api/login", "POST", { token });
    location.replace("/");
  } catch (error) { show("login-error", error.message); askForToken(); }
}
$("login").addEventListener("cancel", (event) => event.preventDefault());
$("login-form").addEventListener("submit", (event) => { event.preventDefault(); logIn($("token").value); });

// -- tabs
const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(tab, focus) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  storage.tab = tab.id;
  watch();
}
for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) choose(tabs[(index + step + tabs.length) % tabs.length], true);
  });
}

// -- spectrograms: shades 0 to 255, from dark blue over violet and orange to yellow
const colours = new Uint8ClampedArray(256 * 4);
{
  const stops = [[7, 16, 28], [44, 17, 95], [114, 31, 129], [183, 55, 121], [241, 96, 93], [254, 159, 109], [252, 253, 191]];
  for (let shade = 0; shade < 256; shade++) {
    const at = shade / 255 * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    for (let part = 0; part < 3; part++) colours[4 * shade + part] = stops[low][part] + (at - low) * (stops[low + 1][part] - stops[low][part]);
    colours[4 * shade + 3] = 255;
  }
}
function draw(canvas, shades, columns, x = 0) {
  const context = canvas.getContext("2d"), image = context.createImageData(columns, bands);
  for (let column = 0; column < columns; column++)
    for (let band = 0; band < bands; band++) {
      const shade = shades[column * bands + band];
      image.data.set(colours.subarray(4 * shade, 4 * shade + 4), 4 * ((bands - 1 - band) * columns + column));
    }
  context.putImageData(image, x, 0);
}
function scroll(canvas, shades) {
  const context = canvas.getContext("2d"), last = canvas.width - 1;
  context.drawImage(canvas, -1, 0);
  draw(canvas, shades, 1, last);
}

// -- live sound
let state = null, socket = null, startedHere = storage.started === "yes", changing = false, failure = "";

function watch() {
  const wanted = !$("live").hidden && !document.hidden;
  if (!wanted) { socket?.close(); socket = null; return; }
  if (socket) return;
  const opened = socket = new WebSocket(`${location.origin.replace("http", "ws")}/api/live/levels`);
  opened.binaryType = "arraybuffer";
  opened.onmessage = ({ data }) => {
    if (typeof data === "string") return changing || render(JSON.parse(data));
    const shades = new Uint8Array(data);
    scroll($("before"), shades.subarray(0, bands));
    scroll($("after"), shades.subarray(bands));
  };
  opened.onclose = () => {
    if (socket !== opened) return;
    socket = null;
    setTimeout(() => api("/api/status").then(watch, () => setTimeout(watch, 2000)), 1000);
  };
}
document.addEventListener("visibilitychange", watch);

async function change(changes) {
  changing = true;
  $("switch").setAttribute("aria-busy", "true");
  failure = "";
  try {
    if (changes.on) storage.started = (startedHere = true) ? "yes" : "";
    render(await send("/api/live", "PATCH", changes));
  } catch (error) {
    failure = error.message;
    if (error.code) {
      const now = await api("/api/live");
      if (changes.on && now.on) startedHere = false; // another window was faster
      render(now);
    }
  }
  changing = false;
  $("switch").removeAttribute("aria-busy");
}
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function render(now) {
  const { status, latency, choices } = now, on = now.on;
  if (state?.on && !on && state.error !== now.error) refreshDevices();
  state = now;
  if (!on) startedHere = false;
  $("switch").setAttribute("aria-checked", on);
  $("switch-label").textContent = on ? "Live sound is on" : "Live sound is off";
  $("route").textContent = on ? `${now.input} → ${now.output}` : "One click cleans your microphone.";
  show("live-error", sentence((on && status.state !== "running" && status.state) || failure || now.error || ""));
  $("elsewhere").hidden = !on || startedHere;
  $("calls").hidden = on && now.virtual;
  $("calls-help").hidden = !(on && now.virtual);
  $("compare").disabled = !on;
  $("feedback").hidden = choices.output === "virtual-mic";
  $("recorded").hidden = !now.recording || (on && choices.record);
  $("recorded-in").textContent = now.recording ? `in ${now.recording}` : "";
  for (const name of ["input", "output", "model", "latency"]) select($(name), choices[name === "latency" ? "latency_ms" : name]);
  $("stereo").checked = choices.stereo;
  $("record").checked = choices.record;
  if (document.activeElement !== $("strength")) $("strength").value = 100 * choices.strength;
  if (document.activeElement !== $("limit")) $("limit").value = choices.limit_db ?? 45;
  labelSliders();
  for (const [side, level] of [["input", status?.input_db], ["output", status?.output_db]]) {
    $(`${side}-db`).textContent = on ? decibels(level) : "";
    $(`${side}-meter`).value = on ? level ?? -60 : -60;
  }
  $("removed").textContent = on && status.noise_removed_db !== null ? decibels(status.noise_removed_db) : "–";
  $("latency-now").textContent = on ? `${(status.latency_ms ?? latency.total_ms).toFixed(0)} ms` : "–";
  $("load").textContent = on ? `${(100 * status.load).toFixed(1)} %` : "–";
  $("dropouts").textContent = !on ? "" : status.xruns_in_words === "none" ? "No drop-outs." : `Drop-outs: ${status.xruns_in_words}.`;
  renderParts(on ? latency : null);
}
const causes = { source_ms: "microphone", resampling_ms: "resampling", denoiser_ms: "denoiser", buffer_ms: "buffer", sink_ms: "output" };
function renderParts(latency) {
  const box = $("parts");
  const key = latency ? JSON.stringify(latency) : "";
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren();
  if (!latency) return;
  const bar = document.createElement("div");
  bar.className = "bar";
  box.append(bar);
  Object.entries(causes).forEach(([name, cause], index) => {
    const piece = document.createElement("i"), words = document.createElement("span");
    piece.style.background = `var(--p${index})`;
    words.append(piece.cloneNode(), `${cause} ${latency[name].toFixed(0)} ms`);
    piece.style.flex = latency[name];
    bar.append(piece);
    box.append(words);
  });
  box.setAttribute("aria-label", `Where the latency comes from: ${[...box.querySelectorAll("span")].map((s) => s.textContent).join(", ")}`);
}
function labelSliders() {
  $("strength-text").textContent = `${$("strength").value} %`;
  $("limit-text").textContent = $("limit").value === "45" ? "no limit" : `${$("limit").value} dB`;
}
function select(box, value) {
  const wanted = value === null ? "" : String(value);
  if (document.activeElement === box && box.value !== wanted && !changing) return;
  if (![...box.options].some((option) => option.value === wanted)) box.append(new Option(`${value} (not there now)`, wanted));
  box.value = wanted;
}
async function refreshDevices() {
  const found = await api("/api/devices");
  fill($("input"), found.inputs, [["", "The system's microphone"]]);
  fill($("output"), found.outputs, [["", "The system's output"], ["virtual-mic", "Virtual microphone, for calls"]]);
}
function fill(box, devices, first) {
  const options = [...first, ...devices.map((device) => [device.name, device.default ? `${device.label} (default)` : device.label])];
  const key = JSON.stringify(options);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const value = box.value;
  box.replaceChildren(...options.map(([name, text]) => new Option(text, name)));
  select(box, value === "" ? null : value);
}
const changed = (changes) => change(state?.on ? { ...changes, restart: startedHere } : changes);
$("switch").addEventListener("click", () => change({ on: !state?.on }));
$("calls").addEventListener("click", () => change({ on: true, output: "virtual-mic", restart: startedHere }));
for (const name of ["input", "output", "model"]) $(name).addEventListener("change", () => changed({ [name]: $(name).value || null }));
$("latency").addEventListener("change", () => changed({ latency_ms: Number($("latency").value) || null }));
for (const name of ["stereo", "record"]) $(name).addEventListener("change", () => changed({ [name]: $(name).checked }));
for (const name of ["strength", "limit"]) $(name).addEventListener("input", labelSliders);
$("strength").addEventListener("change", () => change({ strength: $("strength").value / 100 }));
$("limit").addEventListener("change", () => change({ limit_db: $("limit").value === "45" ? null : Number($("limit").value) }));
let holding = false;
function hold(down) {
  if (down === holding || !state?.on) return;
  holding = down;
  $("compare").textContent = down ? "You hear the original" : "Hold to hear the original";
  send("/api/live", "PATCH", { bypassed: down }).catch(() => {});
}
$("compare").addEventListener("pointerdown", () => hold(true));
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => hold(false));
$("compare").addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); hold(true); } });
for (const kind of ["keyup", "blur"]) $("compare").addEventListener(kind, () => hold(false));
setInterval(() => { if (!$("live").hidden && !document.hidden) refreshDevices().catch(() => {}); }, 5000);

// -- recordings
let jobs = [], current = null, uploads = [], uploading = null;

async function takeIn(files) {
  show("files-error", "");
  uploads.push(...files);
  while (uploads.length && !uploading) {
    const file = uploading = uploads.shift();
    try {
      if (file.size > mostBytes) throw new Error(`${file.name}: a recording may have up to ${mostBytes / 1e6} MB here.`);
      await upload(file);
    } catch (error) { show("files-error", sentence(error.message)); }
    uploading = null;
    refreshJobs();
  }
}
const upload = (file) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open("POST", `/api/files?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.onprogress = ({ loaded, total }) => { file.sent = loaded / total; renderJobs(); };
  request.onload = () => request.status === 201 ? resolve() : reject(new Error(`${file.name}: ${JSON.parse(request.responseText || "{}").error ?? "it was refused."}`));
  request.onerror = () => reject(new Error(`${file.name} could not be sent.`));
  request.send(file);
});
async function refreshJobs() {
  jobs = (await api("/api/files")).files;
  renderJobs();
  if (!current && jobs.some((job) => job.state === "ready")) play(jobs.find((job) => job.state === "ready"));
}
setInterval(() => { if (uploading || jobs.some((job) => ["waiting", "working", "uploading"].includes(job.state))) refreshJobs().catch(() => {}); }, 500);

function words(job) {
  if (job.state === "ready") return job.noise_removed_db === null ? "ready" : `${job.noise_removed_db.toFixed(0)} dB of noise taken off`;
  return { uploading: "coming in", waiting: "waiting", working: `${(100 * job.progress).toFixed(0)} %`, failed: sentence(job.error ?? "") }[job.state];
}
function renderJobs() {
  const pending = [uploading, ...uploads].filter(Boolean).map((file) => ({ id: "", name: file.name, state: "sending", progress: file.sent ?? 0 }));
  const shown = [...jobs.filter((job) => job.state !== "uploading"), ...pending];
  const list = $("queue");
  while (list.children.length > shown.length) list.lastChild.remove();
  shown.forEach((job, index) => {
    let row = list.children[index];
    if (!row) {
      row = document.createElement("li");
      row.innerHTML = '<button class="name"></button><progress max="1"></progress><span class="said"></span><button class="remove">Remove</button>';
      row.querySelector(".name").addEventListener("click", () => play(row.job));
      row.querySelector(".remove").addEventListener("click", () => remove(row.job));
      list.append(row);
    }
    row.job = job;
    row.className = `${job.state}${current && job.id === current.id ? " current" : ""}`;
    const [name, bar, said, away] = row.children;
    if (name.textContent !== job.name) name.textContent = job.name;
    name.disabled = job.state !== "ready";
    bar.hidden = !["working", "sending"].includes(job.state);
    bar.value = job.progress;
    bar.setAttribute("aria-label", `Progress of ${job.name}`);
    said.textContent = job.state === "sending" ? "being sent" : words(job);
    away.hidden = !job.id;
    away.setAttribute("aria-label", `Remove ${job.name}`);
  });
}
async function remove(job) {
  if (current?.id === job.id) { audio.pause(); audio.removeAttribute("src"); current = null; $("player").hidden = true; }
  await api(`/api/files/${job.id}`, { method: "DELETE" }).catch(() => {});
  refreshJobs();
}
async function entriesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(found.map(entriesOf))).flat();
    found.push(...some);
  }
}
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  choose($("tab-recordings"));
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  takeIn(entries.length ? (await Promise.all(entries.map(entriesOf))).flat() : event.dataTransfer.files);
});
$("choose").addEventListener("click", () => $("files").click());
$("choose-folder").addEventListener("click", () => $("folder").click());
for (const name of ["files", "folder"]) $(name).addEventListener("change", () => { takeIn([...$(name).files]); $(name).value = ""; });

// Before is the left channel of the preview and after the right one: one player, so that both stand at the same sample.
const audio = $("audio");
let sound = null, hearAfter = true;
function connect() {
  if (sound) return;
  const context = new AudioContext(), splitter = context.createChannelSplitter(2);
  context.createMediaElementSource(audio).connect(splitter);
  sound = { context, gains: [0, 1].map((channel) => {
    const gain = context.createGain();
    gain.channelCount = 1;
    splitter.connect(gain, channel);
    gain.connect(context.destination);
    return gain;
  }) };
  mix();
}
function mix() {
  const wet = hearAfter ? $("file-strength").value / 100 : 0;
  $("hear-before").setAttribute("aria-checked", !hearAfter);
  $("hear-after").setAttribute("aria-checked", hearAfter);
  $("hear-before").tabIndex = hearAfter ? -1 : 0;
  $("hear-after").tabIndex = hearAfter ? 0 : -1;
  $("file-strength-text").textContent = `${$("file-strength").value} %`;
  if (current) $("download").href = `/api/files/${current.id}/download?strength=${$("file-strength").value / 100}`;
  sound?.gains.forEach((gain, channel) => gain.gain.setTargetAtTime(channel ? wet : 1 - wet, sound.context.currentTime, 0.008));
}
async function play(job) {
  current = job;
  $("player").hidden = false;
  $("playing").textContent = job.name;
  audio.src = `/api/files/${job.id}/preview`;
  mix();
  renderJobs();
  const answer = await fetch(`/api/files/${job.id}/picture`), shades = new Uint8Array(await answer.arrayBuffer());
  const columns = shades.length / bands / 2;
  ["file-before", "file-after"].forEach((name, index) => {
    $(name).width = Math.max(1, columns);
    if (columns) draw($(name), shades.subarray(index * columns * bands), columns);
  });
}
$("play").addEventListener("click", async () => {
  connect();
  await sound.context.resume();
  if (audio.paused) audio.play(); else audio.pause();
});
for (const kind of ["play", "pause", "ended"]) audio.addEventListener(kind, () => {
  $("play").textContent = audio.paused ? "Play" : "Pause";
  $("play").setAttribute("aria-pressed", !audio.paused);
});
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
for (const kind of ["timeupdate", "durationchange"]) audio.addEventListener(kind, () => {
  const length = audio.duration || 0;
  if (length) $("position").value = 1000 * audio.currentTime / length;
  $("position").setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(length)}`);
  $("time").textContent = `${clock(audio.currentTime)} / ${clock(length)}`;
});
$("position").addEventListener("input", () => { if (audio.duration) audio.currentTime = $("position").value / 1000 * audio.duration; });
for (const [id, after] of [["hear-before", false], ["hear-after", true]]) {
  $(id).addEventListener("click", () => { hearAfter = after; mix(); });
  $(id).addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) { hearAfter = !hearAfter; mix(); $(hearAfter ? "hear-after" : "hear-before").focus(); }
  });
}
$("file-strength").addEventListener("input", () => { hearAfter = true; mix(); });

// -- the browser's microphone
let trial = null;
async function startTrial() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { noiseSuppression: false, echoCancellation: false, autoGainControl: false, channelCount: 1 } });
  const context = new AudioContext({ latencyHint: "interactive" });
  await context.audioWorklet.addModule("/static/worklet.js");
  const node = new AudioWorkletNode(context, "through-rtden", { channelCount: 1, channelCountMode: "explicit" });
  const link = new WebSocket(`${location.origin.replace("http", "ws")}/api/trial`);
  link.binaryType = "arraybuffer";
  trial = { stream, context, link };
  link.onopen = () => { link.send(JSON.stringify({ rate_hz: context.sampleRate })); tellStrength(); };
  link.onmessage = ({ data }) => {
    if (typeof data === "string") $("trial-state").textContent = `On: the denoiser delays by ${JSON.parse(data).latency_ms.toFixed(0)} ms, the way there and back comes on top.`;
    else node.port.postMessage(data, [data]);
  };
  link.onclose = ({ reason }) => { if (trial) { stopTrial(); show("trial-error", sentence(reason || "the connection ended.")); } };
  node.port.onmessage = ({ data }) => { if (link.readyState === 1 && link.bufferedAmount < 65536) link.send(data); };
  context.createMediaStreamSource(stream).connect(node).connect(context.destination);
}
function stopTrial() {
  const ended = trial;
  trial = null;
  ended.link.close();
  ended.context.close();
  ended.stream.getTracks().forEach((track) => track.stop());
  renderTrial();
  $("trial-state").textContent = "Off";
}
function renderTrial() {
  $("trial-switch").textContent = trial ? "Stop" : "Start";
  $("trial-switch").setAttribute("aria-pressed", Boolean(trial));
}
const tellStrength = () => {
  $("trial-strength-text").textContent = `${$("trial-strength").value} %`;
  if (trial?.link.readyState === 1) trial.link.send(JSON.stringify({ strength: $("trial-strength").value / 100 }));
};
$("trial-strength").addEventListener("input", tellStrength);
$("trial-switch").addEventListener("click", async () => {
  show("trial-error", "");
  if (trial) return stopTrial();
  $("trial-state").textContent = "Starting";
  try { await startTrial(); } catch (error) {
    $("trial-state").textContent = "Off";
    show("trial-error", error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : error.name === "NotFoundError" ? "This device has no microphone." : error.message);
  }
  renderTrial();
});
if (!navigator.mediaDevices) {
  $("trial-help").hidden = false;
  $("trial-host").textContent = location.hostname;
  $("trial-switch").disabled = true;
}

// -- begin
async function begin() {
  const status = await api("/api/status");
  bands = status.bands;
  mostBytes = status.most_mb * 1e6;
  $("most-mb").textContent = status.most_mb;
  fill($("model"), status.models.map((name) => ({ name, label: name })), [["", "Default"]]);
  for (const name of ["before", "after"]) draw($(name), new Uint8Array($(name).width * bands), $(name).width);
  await refreshDevices().catch((error) => show("live-error", sentence(error.message)));
  render(status.live);
  choose($(storage.tab ?? "tab-live"));
  refreshJobs();
}
if (location.hash.startsWith("#token=")) logIn(decodeURIComponent(location.hash.slice(7)));
else begin().catch(() => {});
