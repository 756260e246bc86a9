// The page: what mode it is in, and what follows from that.
//
// trouble: no camera, until the person says what to do
// loading -> idle | main (the daemon has a run of its own) | watch (a viewer's link)
// idle, main -> live (this browser's camera drives a session) -> idle, main

import { Camera } from "./camera.js";
import { Chart, sum } from "./chart.js";
import { change, chosen, holds, orders } from "./settings.js";
import { ask, Desk } from "./control.js";
import { Figures } from "./stats.js";
import { acceptDrops, Gallery, upload } from "./gallery.js";
import { setUpDialogs, setUpKeys } from "./shortcuts.js";
import { Failure, keep, publish, Refusal, rest, watch } from "./connection.js";
import * as view from "./view.js";
import { cameraTrouble, problemText, serverTrouble, sourceName, whosePortraits } from "./words.js";

const { el } = view;
const POLL_MS = 1000;
const POLL_MAIN_MS = 500;
const SILENT_MS = 2500;

const watched = new URLSearchParams(location.search).get("watch");
const page = {
  mode: "loading",
  run: null, // AbortController of what is shown or published
  peers: { out: null, in: null },
  figures: { out: null, in: null },
  shareId: null,
  state: null,
  stateAt: 0,
  dropped: null,
  wish: { portrait: null, file: null }, // chosen before there was a session
  sent: null, // the picture of one's own that is on
  settings: null, // the state to bring back after the connection broke, until it is known to hold
  awaitingCamera: false, // go live as soon as a camera is plugged in
  retry: null, // cuts a wait short
};
const desk = new Desk({
  state: onState,
  notice: view.say,
  failed: (problem) => page.peers.out && page.peers.out.fail(new Failure(problem)),
});
const gallery = new Gallery(el("portraits"), { choose: choosePortrait });
const chart = new Chart(el("chart"), el("legend"));
const camera = new Camera(el("camera"), { lost: cameraLost });

function enter(mode) {
  page.mode = mode;
  view.setMode(mode);
  // a session of one's own has to begin first
  view.enable({ controls: mode === "main" });
  el("upload").disabled = mode === "watch";
  const go = el("go");
  go.textContent = mode === "live" ? "Stop" : mode === "main" ? "Use this browser's camera" : "Go live";
  go.classList.toggle("primary", mode !== "live");
  el("gallery-whose").textContent = whosePortraits(mode);
  el("you-note").textContent = mode === "main" ? "" : "Nobody sees this picture";
  el("facts").hidden = true;
  el("open-share").hidden = true;
  el("fullscreen").hidden = true;
}

/** End whatever runs now and begin anew; its signal. */
function begin(mode) {
  if (page.run) page.run.abort();
  page.run = new AbortController();
  Object.assign(page, { peers: { out: null, in: null }, figures: { out: null, in: null }, state: null, dropped: null });
  page.shareId = null;
  chart.clear();
  el("delay-now").textContent = "–";
  view.clearBadges();
  view.say("");
  el("result").srcObject = null;
  el("result").hidden = true;
  enter(mode);
  return page.run.signal;
}

// Modes

function toIdle() {
  begin("idle");
  camera.close();
  view.own(null, "Your camera is off");
  desk.attach(null);
  gallery.load("").then(() => view.still(gallery.picture)).catch(refused);
  view.still(gallery.picture);
  view.pill("calm", "Ready");
  view.veil({
    title: "Become this portrait",
    text: "Your camera moves it: mouth, eyes, head. Others see only the portrait.",
    actions: [["Go live", goLive]],
  });
}

function toMain(state) {
  const signal = begin("main");
  camera.close();
  view.own(null, `The portrait is moved by ${sourceName(state.source)}`);
  view.pill("calm", "Connecting");
  view.veil({ title: "One moment", text: "The portrait appears as soon as it is live." });
  desk.attach(null);
  watchFor(signal, "/whep");
  shareable("main");
  onState(state);
}

async function goLive() {
  page.awaitingCamera = false;
  const signal = begin("live");
  view.still(gallery.picture);
  view.pill("calm", "Asking for the camera");
  view.veil({ title: "Allow the camera", text: `The browser asks you now. The picture goes to reenact at ${location.host} and to nobody else.`, actions: [["Cancel", leaveLive]] });
  try {
    if ((await camera.open()) === null) return;
  } catch (error) {
    if (!signal.aborted) cameraFailed(error);
    return;
  }
  view.own(camera.stream, "");
  view.pill("calm", "Connecting");
  view.veil({ title: "Connecting", text: "Your camera is on. The portrait follows in a moment.", actions: [["Cancel", leaveLive]] });
  await keep({
    open: (within) => publish(camera.track, page.settings !== null, within),
    up: (peer) => published(peer, signal),
    down: () => {
      // of a session that came to nothing there is nothing to keep
      page.settings ??= page.state;
      if (page.sent) page.wish.file ??= page.sent;
      page.peers.out = null;
      view.pill("warn", "Connection lost");
    },
    pause: (error, waitMs) => paused(error, waitMs, "publish"),
    signal,
  });
}

function published(peer, signal) {
  page.peers.out = peer;
  page.figures.out = new Figures(peer.pc);
  page.stateAt = performance.now();
  const session = peer.location.split("/").pop();
  desk.attach(session, peer.control);
  const own = new AbortController();
  signal.addEventListener("abort", () => own.abort(), { once: true });
  peer.broken.then(() => own.abort());
  shareable(peer.watch ? peer.watch.split("/").pop() : null);
  watchFor(own.signal, peer.watch);
  if (peer.held) restore(peer);
}

/** Have a new session be as the last one was, and send it pictures only then: nobody sees what was not to be seen. */
async function restore(peer) {
  try {
    for (const [command, value] of orders(page.settings)) {
      // a picture of one's own is sent once more, and has another number then
      if (command !== "set_portrait" || !page.sent) await desk.send(command, value);
      // the desk belongs to another session by now
      if (page.peers.out !== peer) return;
    }
    peer.held = false;
    await peer.sender.replaceTrack(camera.track);
  } catch (error) {
    peer.fail(new Failure((error instanceof Refusal && error.problem) || { found: "reenact is not reached" }));
  }
}

/** Show a stream on the stage until the signal aborts. */
function watchFor(signal, url) {
  const video = el("result");
  return keep({
    open: (within) => watch(url, (stream) => {
      video.srcObject = stream;
      firstFrame(video, stream, signal);
    }, within),
    up: (peer) => {
      page.peers.in = peer;
      page.figures.in = new Figures(peer.pc);
    },
    down: () => {
      view.pill("warn", "Connection lost");
      video.hidden = true;
      view.still(gallery.picture);
    },
    pause: (error, waitMs) => paused(error, waitMs, "watch"),
    signal,
  });
}

function firstFrame(video, stream, signal) {
  const shown = () => {
    // a track that ends without a picture shows a black one
    if (signal.aborted || video.srcObject !== stream || stream.getVideoTracks()[0].readyState === "ended") return;
    video.hidden = false;
    el("stage").style.setProperty("--ratio", `${video.videoWidth} / ${video.videoHeight}`);
    el("fullscreen").hidden = false;
    view.still(null);
    view.unveil();
    view.pill("good", page.mode === "watch" ? "Watching live" : "Live");
  };
  if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(shown);
  else video.addEventListener("playing", shown, { once: true });
  video.play().catch(() => {});
}

function leaveLive() {
  Object.assign(page, { wish: { portrait: null, file: null }, sent: null, settings: null, awaitingCamera: false });
  const signal = begin("loading");
  camera.close();
  view.own(null, "Your camera is off");
  desk.attach(null);
  view.veil({ title: "One moment", text: "" });
  pollOnce(signal);
}

// Trouble

/** Why it waits, on the stage; a promise that cuts the wait short, or false to give up. */
function paused(error, waitMs, doing) {
  const cancel = doing === "publish" || page.mode === "live" ? [["Cancel", leaveLive]] : [];
  const sooner = new Promise((resolve) => { page.retry = resolve; });
  const again = ["Try now", () => page.retry()];
  const refusal = error instanceof Refusal && !error.passing ? error : null;
  if (refusal && refusal.status === 503) {
    const full = refusal.problem.expected === "room for one more";
    const taken = doing === "publish" ? "All places are taken" : "Too many are watching";
    view.pill("warn", full ? "Full" : "Busy");
    view.veil({
      title: full ? taken : "The program does not answer",
      text: problemText({ ...refusal.problem, expected: "", cure: "" }) || "Someone else has to leave first.",
      actions: [again, ...cancel],
      waitMs,
      urgent: true,
    });
    return sooner;
  }
  if (refusal && refusal.status === 404 && doing === "watch") {
    if (page.mode === "watch") {
      view.pill("warn", "Not live");
      el("result").hidden = true;
      view.veil({ title: "Nothing to see right now", text: "This stream has ended, or has not begun. The picture appears by itself as soon as it is live.", actions: [again], waitMs });
    }
    return sooner;
  }
  if (refusal) {
    refused(refusal);
    return false;
  }
  if (error instanceof Failure) {
    view.pill("warn", "Failed");
    view.veil({ title: "The session has failed", text: problemText(error.problem), actions: [again, ...cancel], waitMs, urgent: true });
    return sooner;
  }
  view.pill("warn", "Connection lost");
  view.veil({ title: "The connection broke", text: "Reconnecting by itself.", actions: [again, ...cancel], waitMs, urgent: true });
  return sooner;
}

/** The server refuses for good: say so. */
function refused(error) {
  if (!(error instanceof Refusal) || error.passing) return;
  const { kind, title, text } = serverTrouble(error);
  view.pill("warn", kind === "token" ? "Sign in" : "Refused");
  // a page for watching remains one
  const again = page.mode === "watch" ? () => location.reload() : leaveLive;
  const actions = kind === "token" ? [["Sign in", () => location.reload()]] : [["Try again", again]];
  view.veil({ title, text, actions, urgent: true });
}

function cameraFailed(error) {
  const { kind, title, text } = cameraTrouble(error);
  enter("trouble");
  view.pill("warn", "No camera");
  view.own(null, title);
  view.veil({ title, text, actions: kind === "insecure" ? [["Back", leaveLive]] : [["Try again", goLive], ["Back", leaveLive]], urgent: true });
  page.awaitingCamera = kind === "absent";
}

/** The camera went away in the middle: take it, or another one, as soon as there is one. */
async function cameraLost() {
  view.own(null, "The camera was unplugged, or taken by another program");
  view.alarm("The camera was unplugged, or taken by another program.");
  const { signal } = page.run;
  while (page.mode === "live" && !signal.aborted) {
    await rest(2000, signal);
    if (signal.aborted || camera.live || (await reopenCamera())) return;
  }
}

async function reopenCamera() {
  try {
    const track = await camera.open();
    if (track === null) return false;
    track.contentHint = "motion";
    if (page.peers.out && !page.peers.out.held) await page.peers.out.sender.replaceTrack(track);
    view.own(camera.stream, "");
    return true;
  } catch (error) {
    if (page.mode !== "live") return false;
    const { title, text } = cameraTrouble(error);
    view.own(null, `${title}. ${text}`);
    return false;
  }
}

// State and control

function onState(state) {
  page.stateAt = performance.now();
  page.state = state;
  if (page.mode !== "live" && page.mode !== "main") return;
  view.enable({ controls: page.mode === "main" || page.peers.out !== null });
  if (state.frames > 0 && page.settings && holds(page.settings, state)) page.settings = null;
  view.showState(state.frames > 0 ? state : { ...state, ...chosen(page.settings) });
  gallery.mark(state.portrait ? state.portrait.index : null);
  // portraits become ready one after the other
  if (state.frames > 0) gallery.refresh(desk.query, state.portraits).catch(refused);
  if (page.mode === "live" && camera.stream) {
    const lost = state.face === "lost";
    view.own(camera.stream, lost ? "No face found" : "", true);
  }
  const viewers = Math.max(0, (state.viewers || 0) - (state.session === null ? 1 : 0));
  el("facts").hidden = false;
  el("facts").textContent = `${Math.round(state.fps)} pictures a second${viewers ? ` · ${viewers} watching` : ""}`;
  if (state.frames > 0) fulfil();
}

/** What was chosen before there was a session, and a picture of one's own. */
async function fulfil() {
  const { wish } = page;
  if (page.mode !== "live" || (!wish.file && wish.portrait === null)) return;
  page.wish = { portrait: null, file: null };
  if (wish.file) await addPortrait(wish.file);
  else await order("set_portrait", wish.portrait);
}

/** Send a command and say what came of it. */
async function order(command, value) {
  view.hold(command);
  remember(command, value);
  try {
    view.say(await desk.send(command, value));
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) refused(error);
    view.say(error instanceof Refusal ? problemText(error.problem) : "reenact is not reached", true);
  }
}

/** If the connection breaks before the next state, this is to come back as well. */
function remember(command, value) {
  for (const state of [page.state, page.settings]) {
    if (state) Object.assign(state, change(command, value));
  }
}

function choosePortrait(portrait) {
  if (page.mode === "live" || page.mode === "main") {
    [page.sent, page.wish.file] = [null, null];
    gallery.mark(portrait.index);
    order("set_portrait", portrait.index);
    return;
  }
  page.wish = { portrait: portrait.index, file: null };
  gallery.mark(portrait.index);
  view.still(portrait.picture);
}

async function addPortrait(file) {
  if (page.mode === "idle" || (page.mode === "live" && desk.session === null)) {
    page.wish = { portrait: null, file };
    view.still(URL.createObjectURL(file));
    view.say(`${file.name} is put on as soon as you are live`);
    return;
  }
  el("add").dataset.busy = "";
  el("add-text").textContent = "Looking for the face";
  view.say("Looking for the face in the picture");
  const { signal } = page.run;
  try {
    // those there are come first, one after the other
    for (let tries = 0; tries < 60 && !signal.aborted && !(page.state && gallery.holds(desk.query, page.state.portraits)); tries += 1) {
      await rest(250, signal);
    }
    const { index, name } = await upload(file, desk.query, signal);
    if (page.mode === "live") page.sent = file;
    await gallery.load(desk.query);
    gallery.mark(index);
    view.say(page.mode === "main" ? `${name} is on, for everybody` : `${name} is on`);
  } catch (error) {
    if (error.name !== "AbortError") view.say(error.message, true);
  } finally {
    delete el("add").dataset.busy;
    el("add-text").textContent = "Add a picture";
  }
}

// What the server says of itself, twice a second at most

async function pollOnce(signal) {
  if (page.mode === "trouble") return;
  const { out } = page.peers;
  try {
    if (page.mode === "live") {
      if (out && performance.now() - Math.max(desk.heardAt, page.stateAt) > SILENT_MS) {
        onState(await ask(`/api/state${desk.query}`, { signal }));
      }
      return;
    }
    const { main } = await ask("/api/state", { signal });
    if (signal && signal.aborted) return;
    if (main && page.mode !== "main") toMain(main);
    else if (main) onState(main);
    else if (page.mode !== "idle") toIdle();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (page.mode === "live") {
      // the session is over, though the connection may not have noticed
      if (out && error instanceof Refusal && error.status === 404) out.fail("ended");
      return;
    }
    if (error instanceof Refusal && !error.passing) {
      if (page.mode === "loading") refused(error);
      return;
    }
    if (page.mode !== "loading") begin("loading");
    view.own(null, "Your camera is off");
    view.pill("warn", "Not reached");
    view.veil({ title: "reenact is not reached", text: "It may have ended. Start it again; this page goes on by itself." });
  }
}

async function poll() {
  for (;;) {
    const began = page.run ? page.run.signal : undefined;
    await pollOnce(began && !began.aborted ? began : undefined);
    await figures();
    await new Promise((resolve) => setTimeout(resolve, page.mode === "main" || page.mode === "live" ? POLL_MAIN_MS : POLL_MS));
  }
}

/** One more point of the chart. */
async function figures() {
  const { state } = page;
  if (!state || (page.mode !== "live" && page.mode !== "main")) return;
  const { out, in: back } = page.figures;
  const stages = {};
  let dropped = 0;
  if (out) stages.camera = (await out.read().catch(() => ({ ms: 0 }))).ms;
  for (const [name, figure] of Object.entries(state.stages_ms || {})) stages[name] = figure.p50;
  const inside = (stages.track || 0) + (stages.generate || 0);
  if (state.age_ms && state.age_ms.p50 > inside) stages.send = state.age_ms.p50 - inside;
  if (back) {
    const reading = await back.read().catch(() => ({ ms: 0, dropped: 0 }));
    stages.back = reading.ms;
    dropped += reading.dropped;
  }
  const all = Object.values(state.dropped || {}).reduce((total, each) => total + (Number(each) || 0), 0);
  if (page.dropped !== null) dropped += Math.max(0, all - page.dropped);
  page.dropped = all;
  el("delay-now").textContent = `${Math.round(sum(stages))} ms`;
  chart.push({ stages, dropped });
}

function shareable(id) {
  page.shareId = id;
  el("open-share").hidden = !id;
}

// Wiring

el("go").addEventListener("click", () => (page.mode === "live" ? leaveLive() : goLive()));
el("camera").addEventListener("change", () => {
  if (page.mode === "live" && camera.stream) reopenCamera();
});
for (const button of el("dock").querySelectorAll("[data-command]")) {
  button.addEventListener("click", () => {
    const { command, field } = button.dataset;
    if (!field) {
      order(command);
      return;
    }
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    order(command, on);
  });
}
let gainTimer = null;
el("gain").addEventListener("input", () => {
  const gain = Number(el("gain").value);
  view.showGain(gain);
  view.hold("set_gain");
  clearTimeout(gainTimer);
  gainTimer = setTimeout(() => order("set_gain", gain), 80);
});
for (const name of ["region", "mouth"]) {
  el(name).addEventListener("change", (event) => order(`set_${name}`, event.target.value));
}
el("upload").addEventListener("change", () => {
  const [file] = el("upload").files;
  if (file) addPortrait(file);
  el("upload").value = "";
});
acceptDrops(el("drop"), (file) => page.mode !== "watch" && addPortrait(file));
el("fullscreen").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (el("stage").requestFullscreen) el("stage").requestFullscreen();
  else if (el("result").webkitEnterFullscreen) el("result").webkitEnterFullscreen();
});
setUpDialogs(() => page.shareId);
setUpKeys((command) => {
  if (page.mode !== "live" && page.mode !== "main") return;
  const button = el("dock").querySelector(`[data-command="${command}"]`);
  if (button) button.click();
  else order(command);
});
if (navigator.mediaDevices) {
  navigator.mediaDevices.addEventListener("devicechange", async () => {
    const devices = await camera.list();
    if (page.awaitingCamera && devices.length) goLive();
  });
  camera.list();
}
addEventListener("pagehide", () => {
  if (page.run) page.run.abort();
});
addEventListener("pageshow", (event) => {
  // out of the back-forward cache: everything has ended
  if (event.persisted) location.reload();
});
addEventListener("online", () => page.retry && page.retry());

if (watched !== null) {
  const signal = begin("watch");
  document.title = "reenact: a live portrait";
  view.pill("calm", "Connecting");
  view.veil({ title: "One moment", text: "The portrait appears as soon as it is live." });
  watchFor(signal, watched === "main" ? "/whep" : `/whep/${encodeURIComponent(watched)}`);
} else {
  begin("loading");
  poll();
}
