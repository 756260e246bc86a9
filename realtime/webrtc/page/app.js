// The start of the page: builds its parts, and connects what happens with what follows from it.

import { Camera } from "./camera.js";
import { Chart, sum } from "./chart.js";
import { Commands } from "./commands.js";
import { Control } from "./network/control.js";
import { askForRight, setUpDialogs } from "./dialogs.js";
import { CODES, ReenactError } from "./errors.js";
import { ExpressionPanel } from "./expression.js";
import { Gallery } from "./gallery.js";
import { Interruptions } from "./interruptions.js";
import { LiveSession } from "./live.js";
import { Microphone, showHeard, showMicrophone } from "./microphone.js";
import { ModeMachine } from "./modes.js";
import { Player } from "./network/player.js";
import { Poller } from "./network/poll.js";
import { areApplied, settingsOf } from "./settings.js";
import { ShareDialog } from "./share/share.js";
import { setUpShortcuts } from "./shortcuts.js";
import { resetMode, state, takeWish } from "./state.js";
import { droppedIn, stagesOf } from "./stats.js";
import { acceptDrops, Uploads } from "./uploads.js";
import * as view from "./view.js";
import { setUpLanguages, t, translatePage } from "./words/language.js";
import { dropText, errorText, keptText, pictureVisibility, ratesText, sourceText } from "./words.js";

/** @typedef {import("./state.js").RunState} RunState */

const { el } = view;
translatePage();
setUpLanguages(el("language", HTMLSelectElement));
const watched = new URLSearchParams(location.search).get("watch");

const modes = new ModeMachine("loading", entered);
const control = new Control({
  state: showRun,
  notice: (text) => view.showFeedback(text),
  refused: (error) => view.showFeedback(errorText(error), true),
  failed: (error) => live.fail(error),
});
const interruptions = new Interruptions(modes);
const gallery = new Gallery(el("portraits"), { choose: (portrait) => commands.choose(portrait, gallery) });
const player = new Player({ modes, gallery, interruptions });
const camera = new Camera(el("camera", HTMLSelectElement), { lost: () => live.replaceCamera() });
const microphone = new Microphone({ lost: () => live.microphoneLost() });
const live = new LiveSession({ modes, control, camera, microphone, player, interruptions, share });
const commands = new Commands({ modes, control, refuse: (error) => interruptions.refuse(error) });
const expression = new ExpressionPanel((command, value) => commands.send(command, value));
const uploads = new Uploads({ modes, control, gallery, askForRight });
const chart = new Chart(el("chart"), el("legend"));
const poller = new Poller(modes, control, {
  main: showMain,
  idle: showIdle,
  session: showRun,
  sessionGone: () => state.publisher?.end(CODES.ended),
  unreachable: showUnreachable,
  refused: (error) => modes.name === "loading" && interruptions.refuse(error),
  after: drawChart,
});

// Modes

/**
 * Make the page look as a mode begins.
 * @param {import("./modes.js").ModeName} name
 * @param {import("./modes.js").Mode} mode
 */
function entered(name, mode) {
  resetMode();
  if (mode.controls !== "session") {
    camera.close();
    microphone.close();
    showMicrophone("");
    control.attach(null);
    view.showPreview(null, t("camera.off"));
  }
  player.clear();
  chart.clear();
  el("age-now").textContent = "–";
  view.showBadges([]);
  view.showFeedback(state.wish.file ? keptText(state.wish.file.name) : "");
  document.body.dataset.mode = name;
  el("mute").hidden = name !== "live";
  // a session of the user's own has to begin first
  view.enableControls(mode.controls === "main");
  el("upload", HTMLInputElement).disabled = mode.picture === null;
  el("go").textContent = t(mode.button);
  el("go").classList.toggle("primary", name !== "live");
  el("picture-visibility").textContent = pictureVisibility(mode);
  el("drop-text").textContent = dropText(mode);
  el("camera-note").textContent = mode.controls === "main" ? "" : t("you.only");
  el("rates").hidden = true;
  el("fullscreen").hidden = true;
  share(null);
  if (name === "loading" || name === "watch") {
    view.showStatus("calm", t("status.connecting"));
    view.showOverlay({ title: t("wait.title"), text: t("wait.text") });
  }
}

function showIdle() {
  // the program reads its portraits while it starts: they come one after the other
  gallery.load("").then(() => modes.name === "idle" && player.showStill()).catch(galleryFailed);
  if (modes.name === "idle") return;
  modes.enter("idle");
  player.showStill();
  view.showStatus("calm", t("status.ready"));
  view.showOverlay({
    title: t("idle.title"),
    text: t("idle.text"),
    actions: [[t("go"), () => live.start()]],
  });
}

/** @param {RunState} run */
function showMain(run) {
  if (modes.name !== "main") {
    const signal = modes.enter("main");
    view.showStatus("calm", t("status.connecting"));
    view.showOverlay({ title: t("wait.title"), text: t("wait.text") });
    player.play("whep", signal);
    share("main");
  }
  view.showPreview(null, sourceText(run.source));
  showRun(run);
}

function showUnreachable() {
  if (modes.name !== "loading") modes.enter("loading");
  view.showStatus("warn", t("status.unreachable"));
  view.showOverlay({ title: t("unreachable.title"), text: t("unreachable.text") });
}

/** @param {?string} id what can be watched now */
function share(id) {
  el("open-share").hidden = !id;
}

// State

/** @param {RunState} run */
function showRun(run) {
  const { controls } = modes.current;
  if (controls === null) return;
  state.run = run;
  state.runAt = performance.now();
  view.enableControls(controls === "main" || state.publisher !== null);
  const begun = (run.frames || 0) > 0;
  if (begun && state.settings && areApplied(state.settings, run)) state.settings = null;
  const shown = begun ? run : { ...run, ...settingsOf(state.settings) };
  view.showRun(shown);
  showHeard(microphone, shown.muted === true);
  expression.show(shown, view.isFree("set_expression"));
  gallery.mark(run.portrait ? run.portrait.index : null);
  if (camera.stream) view.showPreview(camera.stream, run.face === "lost" ? t("face.none") : "", true);
  el("rates").hidden = false;
  el("rates").textContent = ratesText(run);
  if (!begun) return;
  gallery.refresh(control.query, run.portraits || 0).catch(galleryFailed);
  if (controls === "session") fulfilWish();
}

/** Show what the user chose before there was a session. */
async function fulfilWish() {
  const { file, portrait } = takeWish();
  if (file) await uploads.add(file);
  else if (portrait !== null) await commands.send("set_portrait", portrait);
}

/** @param {unknown} error */
function galleryFailed(error) {
  if (!(error instanceof ReenactError)) throw error;
  // where the server is out of reach, polling says so; what is not controlled yet is asked for again
  if (!error.temporary && modes.current.controls) interruptions.refuse(error);
}

async function drawChart() {
  const { run, publisherStats, viewerStats } = state;
  if (!run) return;
  // a connection that closes has no figures
  const read = (/** @type {typeof viewerStats} */ stats) => (stats ? stats.read().catch(() => ({ ms: 0, dropped: 0 })) : null);
  const [sent, received] = await Promise.all([read(publisherStats), read(viewerStats)]);
  if (state.run === null) return;
  const stages = stagesOf(run, sent, received);
  const total = droppedIn(run);
  const dropped = (received ? received.dropped : 0) + Math.max(0, total - (state.dropped ?? total));
  state.dropped = total;
  el("age-now").textContent = `${Math.round(sum(stages))} ms`;
  chart.add({ stages, dropped });
}

// Events

el("go").addEventListener("click", () => (modes.name === "live" ? interruptions.leave() : live.start()));
el("camera").addEventListener("change", () => camera.stream && live.reopenCamera());
const upload = el("upload", HTMLInputElement);
upload.addEventListener("change", () => {
  const file = upload.files?.[0];
  if (file) uploads.add(file);
  upload.value = "";
});
acceptDrops(el("drop-hint"), (file) => uploads.add(file));
player.connect();
commands.connectControls();
expression.connect();
setUpDialogs();
new ShareDialog(() => control.query).connect();
setUpShortcuts((command) => commands.press(command));
if (navigator.mediaDevices) {
  navigator.mediaDevices.addEventListener("devicechange", async () => {
    const devices = await camera.list();
    if (state.awaitsCamera && devices.length) live.start();
  });
  camera.list();
}
addEventListener("pagehide", () => modes.end());
// out of the back-forward cache: everything has ended
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
addEventListener("online", () => state.retry?.());

// Start

if (watched !== null) {
  document.title = `reenact: ${t("portrait.live")}`;
  player.play(watched === "main" ? "whep" : `whep/${encodeURIComponent(watched)}`, modes.enter("watch"));
} else {
  modes.enter("loading");
  poller.run();
}
