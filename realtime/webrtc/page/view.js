// What is on the screen: one function for each thing that changes. What it means is decided elsewhere.

import { t } from "./words/language.js";
import { FACE, sentence } from "./words.js";

/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {[label: string, act: () => void]} Action a button */

const HOLD_MS = 1500;
const COUNT_MS = 250;

/**
 * Return the element with this id. Throws Error where there is none of that kind.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function el(id, kind) {
  const found = document.getElementById(id);
  if (!found || (kind && !(found instanceof kind))) throw new Error(`no element #${id} of that kind`);
  return /** @type {T} */ (found);
}

/**
 * Show the status in the head of the page.
 * @param {"calm" | "good" | "warn"} tone
 * @param {string} text
 */
export function showStatus(tone, text) {
  el("status").dataset.tone = tone;
  if (el("status-text").textContent === text) return;
  el("status-text").textContent = text;
  announce(text);
}

/**
 * Have a screen reader say a text in its turn. The same text is not said twice.
 * @param {string} text
 */
export function announce(text) {
  if (el("announcer").textContent !== text) el("announcer").textContent = text;
}

/**
 * Have a screen reader say a text at once.
 * @param {string} text
 */
export function announceNow(text) {
  el("alert").textContent = "";
  el("alert").textContent = text;
}

/** @type {ReturnType<typeof setInterval> | undefined} */
let counting;

/**
 * Cover the picture with words and buttons.
 * @param {{title: string, text?: string, actions?: Action[], waitMs?: number, urgent?: boolean}} message `waitMs` is
 *   counted down; an urgent message is read aloud at once
 */
export function showOverlay({ title, text = "", actions = [], waitMs = 0, urgent = false }) {
  const hadFocus = el("overlay-actions").contains(document.activeElement);
  el("overlay-title").textContent = title;
  el("overlay-text").textContent = text;
  el("overlay-actions").replaceChildren(...actions.map(([label, act], index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    if (index === 0) button.className = "primary";
    button.addEventListener("click", act);
    return button;
  }));
  el("overlay").hidden = false;
  // the focus stays where the user has just pressed a button
  if (hadFocus) (el("overlay-actions").querySelector("button") || el("picture")).focus();
  countDown(waitMs);
  const spoken = waitMs > 0 ? `${text} ${t("again.spoken", { count: Math.ceil(waitMs / 1000) })}` : text;
  if (urgent) announceNow(`${title}. ${spoken}`);
}

/** Uncover the picture. */
export function hideOverlay() {
  if (el("overlay").contains(document.activeElement)) el("picture").focus();
  el("overlay").hidden = true;
  countDown(0);
}

/** @param {number} waitMs */
function countDown(waitMs) {
  clearInterval(counting);
  el("overlay-count").hidden = waitMs <= 0;
  if (waitMs <= 0) return;
  const end = performance.now() + waitMs;
  const show = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    el("overlay-count").textContent = left ? t("again.in", { seconds: left }) : t("again.now");
  };
  show();
  counting = setInterval(show, COUNT_MS);
}

/**
 * Show what became of a command, beside the controls.
 * @param {string} text
 * @param {boolean} [warn]
 */
export function showFeedback(text, warn = false) {
  el("feedback").textContent = sentence(text, "");
  el("feedback").classList.toggle("warn", warn);
}

/**
 * Show the user's own camera, or words in its place.
 * @param {?MediaStream} stream
 * @param {string} text
 * @param {boolean} [over] lays the words over the camera's picture
 */
export function showPreview(stream, text, over = false) {
  const video = el("preview", HTMLVideoElement);
  if (video.srcObject !== stream) video.srcObject = stream;
  video.hidden = !stream;
  el("preview-text").textContent = text;
  el("preview-text").hidden = !text;
  el("preview-text").classList.toggle("over", over);
}

/** The object URL of the file that is shown. @type {?string} */
let fileUrl = null;

/**
 * Show a still picture while nothing is live.
 * @param {?string | Blob} picture an address or a file; null hides it
 */
export function showStill(picture) {
  const image = el("still", HTMLImageElement);
  const old = fileUrl;
  fileUrl = picture instanceof Blob ? URL.createObjectURL(picture) : null;
  const address = picture instanceof Blob ? fileUrl : picture;
  image.hidden = !address;
  if (address && image.getAttribute("src") !== address) image.src = address;
  if (!old) return;
  if (!address) image.removeAttribute("src");
  URL.revokeObjectURL(old);
}

/** When each control follows the state again, in ms since the page was opened. @type {Map<string, number>} */
const heldUntil = new Map();

/**
 * Keep the state from moving back a control that the user has just moved.
 * @param {string} command
 */
export function holdControl(command) {
  heldUntil.set(command, performance.now() + HOLD_MS);
}

/** @param {string} command */
export const isFree = (command) => performance.now() > (heldUntil.get(command) || 0);

/**
 * Bring the controls and badges in line with a state.
 * @param {RunState} run
 */
export function showRun(run) {
  for (const button of controlButtons("[data-field]")) {
    const { command = "", field = "" } = button.dataset;
    const on = Boolean(run[/** @type {keyof RunState} */ (field)]);
    if (isFree(command)) button.setAttribute("aria-pressed", String(on));
  }
  if (isFree("set_gain") && run.gain !== undefined) showGain(run.gain);
  for (const [name, value] of [["region", run.region], ["mouth", run.mouth], ["refined", run.refined], ["driver", run.driver]]) {
    if (name === "driver" && isFree("set_driver")) {
      // none is set where a face was clicked on
      for (const each of el("driver").querySelectorAll("input")) each.checked = each.value === String(value);
      continue;
    }
    const choice = el(`${name}`).querySelector(`input[value="${CSS.escape(String(value ?? ""))}"]`);
    if (choice instanceof HTMLInputElement && isFree(`set_${name}`)) choice.checked = true;
  }
  el("refined").hidden = typeof run.refined !== "boolean";
  el("mouth-neural").hidden = !run.mouths?.includes("neural");
  if (isFree("set_background")) showBackground(run.background || "keep");
  el("preview").classList.toggle("mirrored", Boolean(run.mirror));
  /** @type {[string, boolean][]} */
  const badges = [];
  if (run.slate) badges.push([t("badge.slate"), false]);
  if (run.frozen) badges.push([t("badge.frozen"), false]);
  if (run.calibrating) badges.push([t("badge.calibrating"), false]);
  if (run.face && FACE[run.face]) badges.push([FACE[run.face], true]);
  showBadges(badges);
}

/**
 * Show a background at its controls; none of them is marked for one that the page does not offer.
 * @param {string} background
 */
export function showBackground(background) {
  const isColour = /^#[0-9a-f]{6}$/i.test(background);
  const kind = isColour ? "colour" : background.startsWith("image:") ? "image" : background;
  for (const choice of el("background").querySelectorAll("input")) choice.checked = choice.value === kind;
  el("background-colour-field").hidden = !isColour;
  if (isColour) el("background-colour", HTMLInputElement).value = background;
}

/**
 * Return the buttons of the controls.
 * @param {string} [filter]
 * @returns {HTMLButtonElement[]}
 */
export function controlButtons(filter = "") {
  return [...el("controls").querySelectorAll("button")].filter((each) => !filter || each.matches(filter));
}

/**
 * Show a gain at its slider.
 * @param {number} gain
 */
export function showGain(gain) {
  el("gain", HTMLInputElement).value = String(gain);
  el("gain-value").textContent = `×${gain.toFixed(2).replace(/0$/, "")}`;
}

/**
 * Show badges over the picture, each a text and whether it is a warning.
 * @param {[string, boolean][]} badges
 */
export function showBadges(badges) {
  const key = JSON.stringify(badges);
  if (el("badges").dataset.key === key) return;
  el("badges").dataset.key = key;
  el("badges").replaceChildren(...badges.map(([text, warn]) => {
    const item = document.createElement("li");
    item.textContent = text;
    item.classList.toggle("warn", warn);
    return item;
  }));
  if (badges.length) announce(badges.map(([text]) => text).join(". "));
}

/**
 * Enable the controls, or disable them where there is no run that they act on.
 * @param {boolean} enabled
 */
export function enableControls(enabled) {
  for (const button of controlButtons()) button.disabled = !enabled;
  el("gain", HTMLInputElement).disabled = !enabled;
  for (const name of ["region", "mouth", "refined", "background", "driver", "expression"]) el(name, HTMLFieldSetElement).disabled = !enabled;
}
