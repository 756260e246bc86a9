// What is on the screen, apart from what it means: one function for each thing that changes.

import { FACE } from "./words.js";

const HOLD_MS = 1500;

/** @param {string} id */
export const el = (id) => document.getElementById(id);

export function setMode(mode) {
  document.body.dataset.mode = mode;
}

/** @param {"calm"|"good"|"warn"} tone */
export function pill(tone, text) {
  el("status").dataset.tone = tone;
  if (el("status-text").textContent === text) return;
  el("status-text").textContent = text;
  announce(text);
}

/** Say something to those who do not see the page; the same text is not said twice. */
export function announce(text) {
  if (el("voice").textContent !== text) el("voice").textContent = text;
}

/** The same, at once, for what needs an answer. */
export function alarm(text) {
  el("alarm").textContent = "";
  el("alarm").textContent = text;
}

let counting = null;

/**
 * Cover the stage with words and buttons.
 * @param {{title: string, text?: string, actions?: [string, () => void][], waitMs?: number, urgent?: boolean}} what
 */
export function veil({ title, text = "", actions = [], waitMs = 0, urgent = false }) {
  const focused = el("veil-actions").contains(document.activeElement);
  el("veil-title").textContent = title;
  el("veil-text").textContent = text;
  el("veil-actions").replaceChildren(...actions.map(([label, act], index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    if (index === 0) button.className = "primary";
    button.addEventListener("click", act);
    return button;
  }));
  el("veil").hidden = false;
  // who pressed a button here goes on here
  if (focused) (el("veil-actions").querySelector("button") || el("stage")).focus();
  count(waitMs);
  const spoken = waitMs > 0 ? `${text} Trying again in ${Math.ceil(waitMs / 1000)} seconds.` : text;
  if (urgent) alarm(`${title}. ${spoken}`);
}

export function unveil() {
  if (el("veil").contains(document.activeElement)) el("stage").focus();
  el("veil").hidden = true;
  count(0);
}

function count(waitMs) {
  clearInterval(counting);
  el("veil-count").hidden = waitMs <= 0;
  if (waitMs <= 0) return;
  const end = performance.now() + waitMs;
  const show = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    el("veil-count").textContent = left ? `Trying again in ${left} s` : "Trying again";
  };
  show();
  counting = setInterval(show, 250);
}

/** What came of a command, in the dock. */
export function say(text, warn = false) {
  el("said").textContent = text ? text.charAt(0).toUpperCase() + text.slice(1) : "";
  el("said").classList.toggle("warn", warn);
}

/** Your own picture, or words in its place; ``over`` lays the words over the picture. */
export function own(stream, text, over = false) {
  const video = el("own");
  if (video.srcObject !== stream) video.srcObject = stream;
  video.hidden = !stream;
  el("own-text").textContent = text;
  el("own-text").hidden = !text;
  el("own-text").classList.toggle("over", over);
}

/** The still picture on the stage while nothing is live. */
export function still(picture) {
  const image = el("still");
  image.hidden = !picture;
  if (picture && image.getAttribute("src") !== picture) image.src = picture;
}

const held = new Map();

/** A control the person has just moved: for a moment the state from the server does not move it back. */
export function hold(name) {
  held.set(name, performance.now() + HOLD_MS);
}

const free = (name) => performance.now() > (held.get(name) || 0);

/** Bring the controls and badges in line with a state. */
export function showState(state) {
  for (const button of el("dock").querySelectorAll("[data-field]")) {
    if (free(button.dataset.command)) button.setAttribute("aria-pressed", String(Boolean(state[button.dataset.field])));
  }
  if (free("set_gain")) showGain(state.gain);
  for (const name of ["region", "mouth"]) {
    const choice = el(name).querySelector(`input[value="${CSS.escape(state[name] || "")}"]`);
    if (choice && free(`set_${name}`)) choice.checked = true;
  }
  el("own").classList.toggle("flipped", Boolean(state.mirror));
  badges([
    state.slate && ["Slate is on: viewers see no portrait", false],
    state.frozen && ["Frozen", false],
    state.calibrating && ["Calibrating: look calmly at the camera", false],
    state.face !== "starting" && FACE[state.face] && [FACE[state.face], true],
  ].filter(Boolean));
}

export function showGain(gain) {
  el("gain").value = gain;
  el("gain-value").textContent = `×${Number(gain).toFixed(2).replace(/0$/, "")}`;
}

function badges(list) {
  const key = JSON.stringify(list);
  if (el("badges").dataset.key === key) return;
  el("badges").dataset.key = key;
  el("badges").replaceChildren(...list.map(([text, warn]) => {
    const item = document.createElement("li");
    item.textContent = text;
    item.classList.toggle("warn", warn);
    return item;
  }));
  if (list.length) announce(list.map(([text]) => text).join(". "));
}

export function clearBadges() {
  badges([]);
}

/** Which controls there is something to control for. */
export function enable({ controls }) {
  for (const button of el("dock").querySelectorAll("button")) button.disabled = !controls;
  for (const name of ["gain", "region", "mouth"]) el(name).disabled = !controls;
}
