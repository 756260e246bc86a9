// Keys on the page: the same as in the terminal.

import { announce, el } from "./view.js";
import { t } from "./words/language.js";

/** The commands by key, as in realtime/pipeline/commands.py. @type {Record<string, string>} */
export const KEYS = {
  "c": "calibrate",
  "n": "next_portrait",
  "p": "previous_portrait",
  "f": "set_frozen",
  "s": "set_slate",
  "m": "set_mirror",
  "d": "set_driver",
  "+": "increase_gain",
  "-": "decrease_gain",
  "e": "next_preset",
  "l": "toggle_look",
  "0": "reset_expression",
};
const STORED = "reenact.keys";

/**
 * Return the command of a key press; null where it is meant for something else.
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "altKey" | "metaKey" | "repeat">} event
 */
export function commandOf(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return null;
  return Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
}

/**
 * Call `act` with the command of each key that is pressed, unless keys are off or a dialog or a field has the focus.
 * @param {(command: string) => void} act
 */
export function setUpShortcuts(act) {
  const toggle = el("keys-on", HTMLInputElement);
  toggle.checked = load() !== "off";
  toggle.addEventListener("change", () => {
    store(toggle.checked ? "on" : "off");
    announce(t(toggle.checked ? "keys.on" : "keys.off"));
  });
  addEventListener("keydown", (event) => {
    const command = commandOf(event);
    if (!command || !toggle.checked || document.querySelector("dialog[open]")) return;
    if (event.target instanceof Element && event.target.closest("input:not([type=range], [type=radio]), select, textarea")) return;
    event.preventDefault();
    act(command);
  });
}

// a browser that keeps no data for sites throws at the mere name of its storage

function load() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

/** @param {string} value */
function store(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // it holds until the page is left
  }
}
