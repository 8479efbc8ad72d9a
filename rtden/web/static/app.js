// The page of rtden. It holds no rule of its own: the server says what is allowed.
const $ = (id) => document.getElementById(id);
const on = (id, kinds, act) => kinds.split(" ").map((kind) => $(id).addEventListener(kind, act));
const sentence = (text) => // a file's name stays as it is
  text.replace(/^[a-z](?=[a-z'-]*(?:[ ,;]|$))/, (letter) => letter.toUpperCase());
const show = (id, text) => { $(id).hidden = !text; $(id).textContent = sentence(text || ""); };
const quietly = (promise) => promise.catch(() => {}); // the notice at the top tells
const link = (path) => Object.assign(
  new WebSocket(location.origin.replace("http", "ws") + path), { binaryType: "arraybuffer" });
let server = { bands: 96, most_mb: 500, suffixes: [] };

async function api(path, method = "GET", value = undefined) {
  const body = value instanceof Blob ? value : value && JSON.stringify(value);
  const answer = await quietly(fetch(path, { method, body, keepalive: method === "PATCH" }));
  $("offline").hidden = Boolean(answer);
  if (!answer) throw new Error("rtden does not answer.");
  if (answer.status === 204) return null;
  const found = await answer.json();
  if (answer.status === 401 && !$("login").open) $("login").showModal();
  if (!answer.ok) throw Object.assign(new Error(found.error), { code: answer.status });
  return found;
}
const logIn = (token) => api("/api/login", "POST", { token })
  .then(() => location.replace("/"), (error) => show("login-error", error.message));
on("login", "cancel", (event) => event.preventDefault());
on("login-form", "submit", (event) => { event.preventDefault(); logIn($("token").value); });

// -- views: the address names the one that is shown, for the browser's back button
const links = [...document.querySelectorAll("nav a")];
const shown = () => links.find(({ hash }) => hash === location.hash) ?? links[0];
function turn() {
  for (const each of links) {
    each.ariaCurrent = each === shown() ? "page" : null;
    $(`view-${each.hash.slice(1)}`).hidden = each !== shown();
  }
  watch();
  if (!$("view-recordings").hidden) quietly(refreshJobs());
}
addEventListener("hashchange", turn);

const say = ({ id, value, dataset }) => {
  $(`${id}-text`).textContent = value === dataset.none ? "no limit" : value + dataset.unit;
};
addEventListener("input", ({ target }) => target.dataset.unit && say(target));

// -- spectrograms: shades 0 to 255, from dark blue over violet and orange to yellow
function draw(canvas, shades, columns, x = 0) {
  const { bands } = server, image = new ImageData(columns, bands);
  shades.forEach((shade, n) => {
    const at = shade / 255, place = (bands - 1 - n % bands) * columns + Math.floor(n / bands);
    const parts = [1.5 * at, 1.7 * at * at - 0.2 * at, at < 0.5 ? 0.1 + at : 1.2 - 1.2 * at, 1];
    image.data.set(parts.map((part) => 255 * part), 4 * place);
  });
  canvas.getContext("2d").putImageData(image, x, 0);
}
function scroll(side, [level, ...shades]) {
  $(side).getContext("2d").drawImage($(side), -1, 0);
  draw($(side), shades, 1, $(side).width - 1);
  $(`${side}-meter`).value = 60 * level / 255 - 60;
}

// -- live sound
let state = null, socket = null, failure = "", noDevices = "", holding = false;
const startedHere = (here) => { sessionStorage.started = here ? "yes" : ""; };

function watch() {
  if ($("view-live").hidden || document.hidden) { socket?.close(); socket = null; }
  else if (!socket) {
    const opened = socket = link("/api/live/levels");
    opened.onmessage = ({ data }) => {
      if (typeof data === "string") return render(JSON.parse(data));
      scroll("before", new Uint8Array(data, 0, server.bands + 1));
      scroll("after", new Uint8Array(data, server.bands + 1));
    };
    opened.onclose = () => {
      if (socket !== opened) return;
      socket = null;
      setTimeout(() => quietly(begin()).then(watch), 2000); // another rtden may be there then
    };
  }
}
document.addEventListener("visibilitychange", watch);

let earlier = Promise.resolve(); // one after the other: a slider makes many
const change = (changes) => earlier = earlier.then(async () => {
  [failure, $("switch").ariaBusy] = ["", true];
  if (changes.on) startedHere(true);
  const asked = { ...changes, restart: Boolean(sessionStorage.started) };
  const now = await api("/api/live", "PATCH", asked).catch(async (error) => {
    failure = error.message;
    const found = error.code && await quietly(api("/api/live"));
    if (changes.on && found?.on) startedHere(false); // another window was faster
    return found;
  });
  $("switch").ariaBusy = null;
  if (now) render(now);
});

const causes = { microphone: "source_ms", resampling: "resampling_ms", denoiser: "denoiser_ms",
  buffer: "buffer_ms", output: "sink_ms" };
function render(now) {
  const { on: live, status, latency, choices } = state = now;
  if (!live) startedHere(false);
  $("switch").ariaChecked = live;
  $("switch-label").textContent = live ? "Live sound is on" : "Live sound is off";
  const route = `${now.input} → ${now.output}`;
  $("route").textContent = live ? route : "One click cleans your microphone.";
  const missing = live && status.state !== "running" && status.state;
  show("live-error", missing || failure || now.error || noDevices);
  const muted = now.muted ? "The output is muted; 'rtden ctl mute off' ends that. " : "";
  show("warnings", live && muted + status.warnings.join(" "));
  $("elsewhere").hidden = !live || Boolean(sessionStorage.started);
  $("calls").hidden = live && now.virtual;
  $("calls-help").hidden = !$("calls").hidden;
  $("recorded").hidden = !now.recording || (live && choices.record);
  $("recorded-in").textContent = `in ${now.recording}`;
  for (const name of ["input", "output", "model", "latency_ms"]) select($(name), choices[name]);
  for (const name of ["stereo", "record"]) $(name).checked = choices[name];
  slide($("strength"), 100 * choices.strength);
  slide($("limit_db"), choices.limit_db ?? $("limit_db").dataset.none);
  $("compare").disabled = !live;
  const original = live && (holding || now.bypassed);
  $("compare").ariaPressed = original;
  $("compare").textContent = original ? "You hear the original" : "Hold to hear the original";
  const figure = (id, value, unit, digits = 0, none = "–") => {
    $(id).textContent = live ? value === null ? none : `${value.toFixed(digits)} ${unit}` : "–";
  };
  if (!live) $("before-meter").value = $("after-meter").value = -60;
  figure("before-db", status?.input_db, "dB", 0, "silence");
  figure("after-db", status?.output_db, "dB", 0, "silence");
  figure("removed", status?.noise_removed_db, "dB");
  figure("latency", status?.latency_ms ?? latency?.total_ms, "ms");
  figure("load", 100 * status?.load, "%", 1);
  const parts = Object.keys(causes).map((name) => `${name} ${latency?.[causes[name]].toFixed()}`);
  show("parts", live && `latency in ms: ${parts.join(", ")}.`);
  show("dropouts", live && `${status.xruns ? status.xruns_in_words : "no drop-outs"}.`);
}
function slide(slider, value) {
  if (document.activeElement !== slider) slider.value = value;
  say(slider);
}
function select(box, value) {
  const wanted = String(value ?? ""), part = wanted.toLowerCase(), options = [...box.options];
  const named = (option) => box.dataset.key && option.text.toLowerCase().includes(part);
  const found = options.find((option) => option.value === wanted) ?? options.find(named);
  if (!found) box.append(new Option(`${value} (not there now)`, wanted));
  box.value = found?.value ?? wanted;
}
function fill(box, found, ...first) {
  const text = (each) => each.label + (each.default ? " (default)" : "");
  const options = [...first, ...found.map((each) => [each.name, text(each)])], { value } = box;
  if (box.dataset.key === String(options)) return; // the list may be open
  box.dataset.key = options;
  box.replaceChildren(...options.map(([name, text]) => new Option(text, name)));
  select(box, value);
}
async function refreshDevices() {
  const found = await api("/api/devices").catch(({ message }) => ({ message }));
  noDevices = found.message ?? "";
  fill($("input"), found.inputs ?? [], ["", "The system's microphone"]);
  const calls = ["virtual-mic", "Virtual microphone, for calls"];
  fill($("output"), found.outputs ?? [], ["", "The system's output"], calls);
}
setInterval(() => socket && refreshDevices(), 5000);

on("switch", "click", () => change({ on: !state?.on }));
on("calls", "click", () => change({ on: true, output: "virtual-mic" }));
const text = ({ value }) => value || null, flag = ({ checked }) => checked;
const number = ({ value, dataset }) => value === (dataset.none ?? "") ? null : Number(value);
const read = { input: text, output: text, model: text, stereo: flag, record: flag,
  latency_ms: number, limit_db: number, strength: ({ value }) => value / 100 };
for (const name in read) on(name, "change", () => change({ [name]: read[name]($(name)) }));

function hold(down) {
  if (down === holding || !state?.on) return;
  render({ ...state, bypassed: holding = down });
  quietly(api("/api/live", "PATCH", { bypassed: down }));
}
on("compare", "pointerdown", () => hold(true));
on("compare", "keydown", (event) => {
  if ([" ", "Enter"].includes(event.key)) { event.preventDefault(); hold(true); }
});
on("compare", "keyup blur", () => hold(false));
for (const kind of ["pointerup", "pointercancel", "pagehide"])
  addEventListener(kind, () => hold(false));

// -- recordings
let jobs = [], current = null, sending = 0, sent = Promise.resolve();
const audio = $("audio");
async function upload(file) {
  const most = server.most_mb;
  if (file.size > most * 1e6) throw new Error(`a recording may have up to ${most} MB here.`);
  await api(`/api/files?name=${encodeURIComponent(file.name)}`, "POST", file);
}
function takeIn(files) { // one after the other
  show("files-error", "");
  for (const file of files) {
    sending++;
    sent = sent.then(() => upload(file))
      .catch((error) => show("files-error", `${file.name}: ${error.message}`))
      .then(() => { sending--; return quietly(refreshJobs()); });
  }
}
async function refreshJobs() {
  jobs = (await api("/api/files")).files;
  if (!jobs.some(({ id }) => id === current?.id)) {
    current = jobs.find(({ state }) => state === "ready") ?? null;
    open();
  }
  renderJobs();
}
const isPending = ({ state }) => ["uploading", "waiting", "working"].includes(state);
setInterval(() => (sending || jobs.some(isPending)) && quietly(refreshJobs()), 500);

const quieter = (removed) => removed > 0.5 ? `pauses ${Math.round(removed)} dB quieter` : "ready";
function renderJobs() {
  const list = $("queue"), percent = (job) => `${(100 * job.progress).toFixed()} %`;
  while (list.children.length > jobs.length) list.lastChild.remove();
  while (list.children.length < jobs.length) list.append($("row").content.cloneNode(true));
  jobs.forEach((job, index) => {
    const row = list.children[index], [name, bar, said, away] = row.children;
    row.className = job.id === current?.id ? `${job.state} current` : job.state;
    const pick = () => { current = job; open(); renderJobs(); };
    Object.assign(name, { textContent: job.name, disabled: job.state !== "ready", onclick: pick });
    const hidden = !["uploading", "working"].includes(job.state);
    Object.assign(bar, { ariaLabel: job.name, hidden, value: job.progress });
    said.textContent = { uploading: `sending, ${percent(job)}`, waiting: "waiting",
      working: percent(job), failed: sentence(job.error ?? ""),
      ready: quieter(job.noise_removed_db) }[job.state];
    const onclick = () => quietly(api(`/api/files/${job.id}`, "DELETE").finally(refreshJobs));
    Object.assign(away, { ariaLabel: `Remove ${job.name}`, onclick });
  });
  show("more", sending > 1 && `${sending - 1} more to be sent.`);
}
const isSound = ({ name }) => !name.startsWith(".") // in a folder; a file that is chosen is tried
  && server.suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((...done) => entry.file(...done))];
  const reader = entry.createReader(), found = [];
  for (let some = [0]; some.length; found.push(...some))
    some = await new Promise((...done) => reader.readEntries(...done));
  return (await Promise.all(found.map(filesIn))).flat().filter(isSound);
}
const mark = (over) => $("drop").classList.toggle("over", over);
addEventListener("dragover", (event) => { event.preventDefault(); mark(true); });
addEventListener("dragleave", (event) => mark(Boolean(event.relatedTarget)));
addEventListener("drop", async (event) => {
  event.preventDefault();
  mark(false);
  location.hash = "recordings";
  const { items, files } = event.dataTransfer;
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  takeIn(entries.length ? (await Promise.all(entries.map(filesIn))).flat() : files);
});
for (const [name, wanted] of [["files", () => true], ["folder", isSound]]) {
  on(`choose-${name}`, "click", () => $(name).click());
  on(name, "change", () => { takeIn([...$(name).files].filter(wanted)); $(name).value = ""; });
}

// The preview has before in the left channel and after in the right one: with one player, both
// stand at the same sample.
let sound = null;
function connect() {
  const context = new AudioContext(), splitter = context.createChannelSplitter(2);
  context.createMediaElementSource(audio).connect(splitter);
  const gains = [context.createGain(), context.createGain()];
  gains.forEach((gain, side) => splitter.connect(gain, side).connect(context.destination));
  return { context, gains };
}
function mix() {
  const strength = $("file-strength").value / 100, wet = $("hear-after").checked ? strength : 0;
  $("download").href = `/api/files/${current?.id}/download?strength=${strength}`;
  sound?.gains.forEach(({ gain }, channel) => {
    const share = channel ? wet : 1 - wet, seconds = audio.paused ? 0 : 0.008; // no fade at a start
    gain.setTargetAtTime(share, sound.context.currentTime, seconds);
  });
}
for (const id of ["hear-before", "hear-after"]) on(id, "change", mix);
on("file-strength", "input", () => { $("hear-after").checked = true; mix(); });
on("audio", "play", () => sound.context.resume()); // which a browser allows after a click only
async function open() {
  $("player").hidden = !current;
  if (!current) return audio.removeAttribute("src");
  sound ??= connect();
  mix();
  $("playing").textContent = current.name;
  audio.src = `/api/files/${current.id}/preview`;
  const picture = await quietly(fetch(`/api/files/${current.id}/picture`));
  const shades = new Uint8Array(await picture?.arrayBuffer() ?? 0), half = shades.length / 2;
  [$("file-before"), $("file-after")].forEach((canvas, side) => {
    canvas.width = Math.max(1, half / server.bands);
    if (half) draw(canvas, shades.subarray(side * half, side * half + half), canvas.width);
  });
}

// -- the browser's microphone
let trial = null;
async function startTrial() {
  const untouched = { noiseSuppression: false, echoCancellation: false, autoGainControl: false };
  const wanted = { audio: { ...untouched, channelCount: 1 } };
  const stream = await navigator.mediaDevices.getUserMedia(wanted), context = new AudioContext();
  await context.audioWorklet.addModule("/static/worklet.js");
  const mono = { channelCount: 1, channelCountMode: "explicit" };
  const node = new AudioWorkletNode(context, "through-rtden", mono);
  const opened = link(`/api/trial?rate_hz=${context.sampleRate}`);
  opened.onmessage = ({ data }) => {
    if (typeof data !== "string") return node.port.postMessage(data, [data]);
    const delay = `${JSON.parse(data).latency_ms.toFixed()} ms`;
    show("trial-state", `on: the denoiser delays by ${delay}; the way there and back adds to it.`);
  };
  opened.onclose = ({ reason }) => trial && stopTrial(reason || "the connection ended.");
  node.port.onmessage = ({ data }) => {
    if (opened.readyState === 1 && opened.bufferedAmount < 65536) opened.send(data);
  };
  context.createMediaStreamSource(stream).connect(node).connect(context.destination);
  trial = { stream, context, opened };
}
function stopTrial(reason) {
  const { stream, context, opened } = trial;
  trial = null; // before the connection ends: it ends as it should
  for (const each of [opened, context]) each.close();
  for (const track of stream.getTracks()) track.stop();
  $("trial-switch").textContent = "Start";
  show("trial-state", "off");
  show("trial-error", reason);
}
on("trial-switch", "click", async () => {
  show("trial-error", "");
  if (trial) return stopTrial("");
  $("trial-switch").disabled = true;
  await startTrial().catch(({ message }) => show("trial-error", `no microphone: ${message}.`));
  if (trial) $("trial-switch").textContent = "Stop";
  $("trial-switch").disabled = false;
});
$("trial-help").hidden = Boolean(navigator.mediaDevices);
$("trial-switch").disabled = !navigator.mediaDevices;
$("trial-host").textContent = location.hostname;

// -- begin
async function begin() {
  server = await api("/api/status");
  $("most-mb").textContent = server.most_mb;
  fill($("model"), server.models.map((name) => ({ name, label: name })), ["", "Default"]);
  await refreshDevices();
  render(server.live);
  await refreshJobs();
  turn();
}
const token = location.hash.match(/^#token=(.*)/)?.[1];
quietly(Promise.resolve(token && logIn(token)).then(begin));
