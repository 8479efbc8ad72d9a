// The page of rtden. It holds no rule of its own: the server says what is allowed.
const $ = (id) => document.getElementById(id);
const on = (id, kinds, act) => kinds.split(" ").map((kind) => $(id).addEventListener(kind, act));
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const show = (id, text) => { $(id).hidden = !text; $(id).textContent = sentence(text || ""); };
const decibels = (value) => value === null ? "silence" : `${value.toFixed(0)} dB`;
const percent = (id) => { $(`${id}-text`).textContent = `${$(id).value} %`; };
const link = (path) => Object.assign(
  new WebSocket(location.origin.replace("http", "ws") + path), { binaryType: "arraybuffer" });
let bands = 96, mostMb = 500;

async function api(path, method = "GET", value = undefined) {
  const body = value && JSON.stringify(value);
  const answer = await fetch(path, { method, body }).catch(() => null);
  $("offline").hidden = Boolean(answer);
  if (!answer) throw new Error("rtden does not answer.");
  if (answer.status === 204) return null;
  const found = await answer.json();
  if (answer.status === 401 && !$("login").open) $("login").showModal();
  if (!answer.ok) throw Object.assign(new Error(found.error), { code: answer.status });
  return found;
}
const changeLive = (changes) => api("/api/live", "PATCH", changes);

// -- token
const logIn = (token) => api("/api/login", "POST", { token })
  .then(() => location.replace("/"), (error) => show("login-error", error.message));
on("login", "cancel", (event) => event.preventDefault());
on("login-form", "submit", (event) => { event.preventDefault(); logIn($("token").value); });

// -- tabs, and A or B: one of several, by a click or the arrow keys
const steps = { ArrowRight: 1, ArrowLeft: -1 };
function group(all, attribute, steps, act) {
  const mark = (chosen) => all.forEach((each) => {
    each.setAttribute(attribute, each === chosen);
    each.tabIndex = each === chosen ? 0 : -1;
  });
  const pick = (chosen) => { mark(chosen); act(chosen); };
  all.forEach((each, index) => {
    on(each.id, "click", () => pick(each));
    on(each.id, "keydown", ({ key }) => {
      const next = all.at((index + steps[key]) % all.length);
      if (key in steps) { pick(next); next.focus(); }
    });
  });
  mark(all.find((each) => each.getAttribute(attribute) === "true"));
  return pick;
}
const tabs = [...document.querySelectorAll("[role=tab]")];
const choose = group(tabs, "aria-selected", steps, (chosen) => {
  for (const tab of tabs) $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  sessionStorage.tab = chosen.id;
  watch();
});

// -- spectrograms: shades 0 to 255, from dark blue over violet and orange to yellow
const stops = ["07101c", "2c115f", "721f81", "b73779", "f1605d", "fe9f6d", "fcfdbf"]
  .map((hex) => [4, 2, 0].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const colours = Uint32Array.from({ length: 256 }, (_, shade) => {
  const at = shade / 255 * 6, low = Math.min(Math.floor(at), 5);
  const between = (part, n) => Math.round(part + (at - low) * (stops[low + 1][n] - part));
  return stops[low].map(between).reduce((pixel, part) => pixel << 8 | part, 255) >>> 0;
});
function draw(canvas, shades, columns, x = 0) {
  const image = new ImageData(columns, bands), pixels = new Uint32Array(image.data.buffer);
  for (let column = 0; column < columns; column++)
    for (let band = 0; band < bands; band++)
      pixels[(bands - 1 - band) * columns + column] = colours[shades[column * bands + band]];
  canvas.getContext("2d").putImageData(image, x, 0);
}
function scroll(name, shades) {
  $(name).getContext("2d").drawImage($(name), -1, 0);
  draw($(name), shades, 1, $(name).width - 1);
}

// -- live sound
let state = null, socket = null, changing = false, failure = "";
let startedHere = Boolean(sessionStorage.started);
const started = (here) => { startedHere = here; sessionStorage.started = here ? "yes" : ""; };

function watch() {
  if ($("live").hidden || document.hidden) { socket?.close(); socket = null; }
  else if (!socket) {
    const opened = socket = link("/api/live/levels");
    opened.onmessage = ({ data }) => {
      if (typeof data === "string") return changing || render(JSON.parse(data));
      scroll("before", new Uint8Array(data, 0, bands));
      scroll("after", new Uint8Array(data, bands, bands));
    };
    opened.onclose = () => {
      if (socket !== opened) return;
      socket = null;
      setTimeout(() => api("/api/status").finally(watch).catch(() => {}), 2000);
    };
  }
}
document.addEventListener("visibilitychange", watch);

let earlier = Promise.resolve(); // one after the other: a slider makes many
const change = (changes) => earlier = earlier.then(async () => {
  [changing, failure, $("switch").ariaBusy] = [true, "", true];
  if (changes.on) started(true);
  const now = await changeLive(changes).catch(async (error) => {
    failure = error.message;
    const found = error.code && await api("/api/live").catch(() => null);
    if (changes.on && found?.on) startedHere = false; // another window was faster
    return found;
  });
  [changing, $("switch").ariaBusy] = [false, null];
  if (now) render(now);
});
const changed = (changes) => change(state?.on ? { ...changes, restart: startedHere } : changes);

function render(now) {
  const { on: live, status, latency, choices } = state = now;
  if (!live) started(false);
  $("switch").setAttribute("aria-checked", live);
  $("switch-label").textContent = live ? "Live sound is on" : "Live sound is off";
  const route = `${now.input} → ${now.output}`;
  $("route").textContent = live ? route : "One click cleans your microphone.";
  const missing = live && status.state !== "running" && status.state;
  show("live-error", missing || failure || now.error);
  show("warnings", live && status.warnings.join(" "));
  $("elsewhere").hidden = !live || startedHere;
  $("calls").hidden = live && now.virtual;
  $("calls-help").hidden = !$("calls").hidden;
  $("compare").disabled = !live;
  $("feedback").hidden = choices.output === "virtual-mic";
  $("recorded").hidden = !now.recording || (live && choices.record);
  $("recorded-in").textContent = `in ${now.recording}`;
  for (const name of ["input", "output", "model", "latency_ms"]) select($(name), choices[name]);
  for (const name of ["stereo", "record"]) $(name).checked = choices[name];
  const slide = (box, value) => { if (document.activeElement !== box) box.value = value; };
  slide($("strength"), 100 * choices.strength);
  slide($("limit"), choices.limit_db ?? 45);
  labelSliders();
  for (const side of ["input", "output"]) {
    const known = live ? status[`${side}_db`] : null, level = Math.max(-60, known ?? -60);
    $(`${side}-db`).textContent = live ? decibels(known) : "";
    $(`${side}-meter`).ariaValueNow = Math.round(level);
    $(`${side}-meter`).firstElementChild.style.clipPath = `inset(0 ${level / -0.6}% 0 0)`;
  }
  const figure = (id, value, unit, digits = 0) => {
    $(id).textContent = live && value !== null ? `${value.toFixed(digits)} ${unit}` : "–";
  };
  figure("removed", status?.noise_removed_db, "dB");
  figure("latency-now", status?.latency_ms ?? latency?.total_ms, "ms");
  figure("load", 100 * status?.load, "%", 1);
  const faults = status?.xruns ? `${status.xruns_in_words}.` : "No drop-outs.";
  $("dropouts").textContent = live ? sentence(faults) : "";
  renderParts(live ? latency : null);
}
const causes = { source_ms: "microphone", resampling_ms: "resampling", denoiser_ms: "denoiser",
  buffer_ms: "buffer", sink_ms: "output" };
function renderParts(latency) {
  $("parts").hidden = !latency;
  if (!latency) return;
  const texts = Object.keys(causes).map((name) => `${causes[name]} ${latency[name].toFixed(0)} ms`);
  if ($("parts").ariaLabel === texts.join(", ")) return;
  $("parts").ariaLabel = texts.join(", ");
  Object.keys(causes).forEach((name, index) => {
    $("bar").children[index].style.flexGrow = latency[name];
    $("causes").children[index].textContent = texts[index];
  });
}
function labelSliders() {
  percent("strength");
  $("limit-text").textContent = $("limit").value === "45" ? "no limit" : `${$("limit").value} dB`;
}
function select(box, value) {
  const wanted = String(value ?? "");
  if (document.activeElement === box && box.value !== wanted && !changing) return;
  if (![...box.options].some((option) => option.value === wanted))
    box.append(new Option(`${value} (not there now)`, wanted));
  box.value = wanted;
}
function fill(box, found, ...first) {
  const text = (each) => each.label + (each.default ? " (default)" : "");
  const options = [...first, ...found.map((each) => [each.name, text(each)])], { value } = box;
  if (box.dataset.key === String(options)) return;
  box.dataset.key = options;
  box.replaceChildren(...options.map(([name, text]) => new Option(text, name)));
  select(box, value);
}
async function refreshDevices() {
  const { inputs, outputs } = await api("/api/devices");
  fill($("input"), inputs, ["", "The system's microphone"]);
  const calls = ["virtual-mic", "Virtual microphone, for calls"];
  fill($("output"), outputs, ["", "The system's output"], calls);
}
setInterval(() => socket && refreshDevices().catch(() => {}), 5000);
on("switch", "click", () => change({ on: !state?.on }));
on("calls", "click", () => change({ on: true, output: "virtual-mic", restart: startedHere }));
for (const name of ["input", "output", "model"])
  on(name, "change", () => changed({ [name]: $(name).value || null }));
on("latency_ms", "change", () => changed({ latency_ms: Number($("latency_ms").value) || null }));
for (const name of ["stereo", "record"])
  on(name, "change", () => changed({ [name]: $(name).checked }));
for (const name of ["strength", "limit"]) on(name, "input", labelSliders);
on("strength", "change", () => change({ strength: $("strength").value / 100 }));
const limit = (value) => value === "45" ? null : Number(value);
on("limit", "change", () => change({ limit_db: limit($("limit").value) }));
function hold(down) {
  if (down === ($("compare").ariaPressed === "true") || !state?.on) return;
  $("compare").ariaPressed = down;
  $("compare").textContent = down ? "You hear the original" : "Hold to hear the original";
  changeLive({ bypassed: down }).catch(() => {});
}
on("compare", "pointerdown", () => hold(true));
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => hold(false));
on("compare", "keydown", (event) => {
  if ([" ", "Enter"].includes(event.key)) { event.preventDefault(); hold(true); }
});
on("compare", "keyup blur", () => hold(false));

// -- recordings
let jobs = [], current = null, uploading = null;
const uploads = [];

async function takeIn(files) {
  show("files-error", "");
  uploads.push(...files);
  while (uploads.length && !uploading) {
    uploading = uploads.shift();
    await upload(uploading)
      .catch((error) => show("files-error", `${uploading.name}: ${error.message}`));
    uploading = null;
    await refreshJobs();
  }
}
const upload = (file) => new Promise((resolve, reject) => {
  const refuse = (reason) => reject(new Error(reason));
  if (file.size > mostMb * 1e6) return refuse(`a recording may have up to ${mostMb} MB here.`);
  const request = new XMLHttpRequest(); // unlike fetch, it tells how far it is
  request.open("POST", `/api/files?name=${encodeURIComponent(file.name)}`);
  request.upload.onprogress = ({ loaded, total }) => { file.sent = loaded / total; renderJobs(); };
  request.onload = () =>
    request.status === 201 ? resolve() : refuse(JSON.parse(request.responseText).error);
  request.onerror = () => refuse("it could not be sent.");
  request.send(file);
});
async function refreshJobs() {
  jobs = (await api("/api/files")).files;
  renderJobs();
  const ready = jobs.find((job) => job.state === "ready");
  if (!current && ready) play(ready);
}
const isPending = (job) => ["uploading", "waiting", "working"].includes(job.state);
setInterval(() => { if (uploading || jobs.some(isPending)) refreshJobs().catch(() => {}); }, 500);

const quieter = (removed) => removed > 0.5 ? `pauses ${Math.round(removed)} dB quieter` : "ready";
const words = (job) => ({
  sending: "being sent", waiting: "waiting", working: `${(100 * job.progress).toFixed(0)} %`,
  failed: sentence(job.error ?? ""), ready: quieter(job.noise_removed_db),
})[job.state];
function renderJobs() {
  const sent = [uploading, ...uploads].filter(Boolean)
    .map((file) => ({ name: file.name, state: "sending", progress: file.sent ?? 0 }));
  const shown = [...jobs.filter((job) => job.state !== "uploading"), ...sent], list = $("queue");
  while (list.children.length > shown.length) list.lastChild.remove();
  while (list.children.length < shown.length) list.append($("row").content.cloneNode(true));
  shown.forEach((job, index) => {
    const row = list.children[index], [name, bar, said, away] = row.children;
    row.className = job.id && job.id === current?.id ? `${job.state} current` : job.state;
    const disabled = job.state !== "ready", hidden = !["working", "sending"].includes(job.state);
    Object.assign(name, { textContent: job.name, disabled, onclick: () => play(job) });
    Object.assign(bar, { ariaLabel: job.name, hidden, value: job.progress });
    said.textContent = words(job);
    Object.assign(away, { ariaLabel: `Remove ${job.name}`, onclick: () => remove(job) });
    away.hidden = !job.id;
  });
}
async function remove(job) {
  if (current?.id === job.id) {
    audio.removeAttribute("src");
    audio.load();
    [current, $("player").hidden] = [null, true];
  }
  await api(`/api/files/${job.id}`, "DELETE").catch(() => {});
  refreshJobs();
}
async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((...done) => entry.file(...done))];
  const reader = entry.createReader(), found = [];
  for (let some = [0]; some.length; found.push(...some))
    some = await new Promise((...done) => reader.readEntries(...done));
  return (await Promise.all(found.map(filesIn))).flat();
}
const mark = (over) => $("drop").classList.toggle("over", over);
addEventListener("dragover", (event) => { event.preventDefault(); mark(true); });
addEventListener("dragleave", (event) => mark(Boolean(event.relatedTarget)));
addEventListener("drop", async (event) => {
  event.preventDefault();
  mark(false);
  choose($("tab-recordings"));
  const { items, files } = event.dataTransfer;
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  takeIn(entries.length ? (await Promise.all(entries.map(filesIn))).flat() : files);
});
for (const name of ["files", "folder"]) {
  on(`choose-${name}`, "click", () => $(name).click());
  on(name, "change", () => { takeIn([...$(name).files]); $(name).value = ""; });
}

// The preview has before in the left channel and after in the right one: with one player, both
// stand at the same sample.
const audio = $("audio");
let sound = null, hearsAfter = true;
function connect() {
  const context = new AudioContext(), splitter = context.createChannelSplitter(2);
  context.createMediaElementSource(audio).connect(splitter);
  const gains = [context.createGain(), context.createGain()];
  gains.forEach((gain, side) => splitter.connect(gain, side).connect(context.destination));
  return { context, gains };
}
function mix() {
  const strength = $("file-strength").value / 100, wet = hearsAfter ? strength : 0;
  percent("file-strength");
  $("download").href = `/api/files/${current?.id}/download?strength=${strength}`;
  sound?.gains.forEach(({ gain }, channel) => {
    gain.setTargetAtTime(channel ? wet : 1 - wet, sound.context.currentTime, 0.008);
  });
}
const sides = [$("hear-before"), $("hear-after")];
const hear = group(sides, "aria-checked", { ...steps, ArrowDown: 1, ArrowUp: -1 }, (side) => {
  hearsAfter = side === sides[1];
  mix();
});
on("file-strength", "input", () => hear(sides[1]));
async function play(job) {
  current = job;
  $("player").hidden = false;
  $("playing").textContent = job.name;
  audio.src = `/api/files/${job.id}/preview`;
  mix();
  renderJobs();
  const shades = new Uint8Array(await (await fetch(`/api/files/${job.id}/picture`)).arrayBuffer());
  const columns = shades.length / bands / 2;
  [$("file-before"), $("file-after")].forEach((canvas, side) => {
    canvas.width = Math.max(1, columns);
    if (columns) draw(canvas, shades.subarray(side * columns * bands), columns);
  });
}
on("play", "click", async () => {
  sound ??= connect();
  mix();
  await sound.context.resume();
  if (audio.paused) audio.play(); else audio.pause();
});
on("audio", "play pause ended", () => { $("play").textContent = audio.paused ? "Play" : "Pause"; });
const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
on("audio", "timeupdate durationchange", () => {
  const { currentTime, duration } = audio;
  $("position").value = 1000 * currentTime / duration || 0;
  $("time").textContent = `${clock(currentTime)} / ${clock(duration || 0)}`;
  $("position").ariaValueText = $("time").textContent;
});
on("position", "input", () => {
  audio.currentTime = $("position").value / 1000 * (audio.duration || 0);
});

// -- the browser's microphone
let trial = null;
async function startTrial() {
  const untouched = { noiseSuppression: false, echoCancellation: false, autoGainControl: false };
  const audio = { ...untouched, channelCount: 1 };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  await context.audioWorklet.addModule("/static/worklet.js");
  const mono = { channelCount: 1, channelCountMode: "explicit" };
  const node = new AudioWorkletNode(context, "through-rtden", mono);
  const opened = link("/api/trial");
  opened.onopen = () => { opened.send(`{"rate_hz": ${context.sampleRate}}`); tellStrength(); };
  opened.onmessage = ({ data }) => {
    if (typeof data !== "string") return node.port.postMessage(data, [data]);
    const delay = `${JSON.parse(data).latency_ms.toFixed(0)} ms`;
    show("trial-state", `on: the denoiser delays by ${delay}; the way there and back adds to it`);
  };
  opened.onclose = ({ reason }) => {
    if (!trial) return;
    stopTrial();
    show("trial-error", reason || "the connection ended.");
  };
  node.port.onmessage = ({ data }) => {
    if (opened.readyState === 1 && opened.bufferedAmount < 65536) opened.send(data);
  };
  context.createMediaStreamSource(stream).connect(node).connect(context.destination);
  trial = { stream, context, opened };
}
function stopTrial() {
  const { stream, context, opened } = trial;
  trial = null; // before the connection ends: it ends as it should
  for (const each of [opened, context]) each.close();
  for (const track of stream.getTracks()) track.stop();
  $("trial-switch").textContent = "Start";
  show("trial-state", "off");
}
function tellStrength() {
  percent("trial-strength");
  const strength = $("trial-strength").value / 100;
  if (trial?.opened.readyState === 1) trial.opened.send(JSON.stringify({ strength }));
}
on("trial-strength", "input", tellStrength);
on("trial-switch", "click", () => {
  show("trial-error", "");
  if (trial) return stopTrial();
  $("trial-switch").textContent = "Stop";
  startTrial().catch(({ name, message }) => {
    $("trial-switch").textContent = "Start";
    if (name === "NotAllowedError") message = "the browser was not allowed to use the microphone.";
    if (name === "NotFoundError") message = "this device has no microphone.";
    show("trial-error", message);
  });
});
$("trial-help").hidden = Boolean(navigator.mediaDevices);
$("trial-switch").disabled = !navigator.mediaDevices;
$("trial-host").textContent = location.hostname;

// -- begin
async function begin() {
  const status = await api("/api/status");
  [bands, mostMb] = [status.bands, status.most_mb];
  $("most-mb").textContent = mostMb;
  fill($("model"), status.models.map((name) => ({ name, label: name })), ["", "The usual one"]);
  await refreshDevices().catch((error) => { failure = error.message; });
  render(status.live);
  choose($(sessionStorage.tab ?? "tab-live"));
  refreshJobs();
}
const token = location.hash.match(/^#token=(.*)/)?.[1];
Promise.resolve(token && logIn(decodeURIComponent(token))).then(begin).catch(() => {});
