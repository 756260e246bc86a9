// Pictures that the user adds, by click, keyboard or drop: to whom they go, and when.

import { CODES, ReenactError } from "./errors.js";
import { wait } from "./network/retry.js";
import { fetchJson, isAbort } from "./network/server.js";
import { state } from "./state.js";
import { el, showFeedback, showStill } from "./view.js";
import { t } from "./words/language.js";
import { errorText, keptText } from "./words.js";

const MAX_MIB = 16;
const MAX_NAME = 60;
const READY_MS = 15000;
const STEP_MS = 250;

/** @typedef {import("./dialogs.js").Right} Right */

/** Adds pictures to the run that the page controls, or keeps one until the user's session begins. */
export class Uploads {
  /** What the user has said of each picture, which is asked once. @type {WeakMap<File, Right>} */
  #rights = new WeakMap();

  /**
   * @param {object} parts
   * @param {import("./modes.js").ModeMachine} parts.modes
   * @param {import("./network/control.js").Control} parts.control
   * @param {import("./gallery.js").Gallery} parts.gallery
   * @param {() => Promise<?Right>} parts.askForRight
   */
  constructor({ modes, control, gallery, askForRight }) {
    this.modes = modes;
    this.control = control;
    this.gallery = gallery;
    this.askForRight = askForRight;
  }

  /**
   * Add a picture. A picture for the user's own session never goes to the main run, which everyone may watch: without
   * a session it is kept.
   * @param {File} file
   */
  async add(file) {
    const { picture } = this.modes.current;
    if (picture === null) return;
    const right = this.#rights.get(file) ?? (await this.askForRight());
    // who would see the picture may have changed while the user answered
    if (right === null || this.modes.current.picture !== picture) {
      showFeedback(t("upload.notUsed"));
      return;
    }
    this.#rights.set(file, right);
    const { session } = this.control;
    if (picture === "main" || (picture === "session" && session !== null)) {
      await this.#send(file, picture, right);
    } else {
      state.wish = { portrait: null, file };
      showStill(file);
      this.gallery.mark(null);
      showFeedback(keptText(file.name));
    }
  }

  /**
   * @param {File} file
   * @param {"main" | "session"} picture
   * @param {Right} right
   */
  async #send(file, picture, right) {
    const { signal } = this.modes;
    const { query } = this.control;
    this.#setBusy(true);
    showFeedback(t("add.looking"));
    try {
      await this.#portraitsReady(query, signal);
      if (signal.aborted) return;
      const { index, name } = await uploadPicture(file, query, signal, right, chosenFit());
      if (picture === "session") state.uploaded = file;
      await this.gallery.load(query);
      this.gallery.mark(index);
      showFeedback(t(picture === "main" ? "add.shownAll" : "add.shown", { name }));
    } catch (error) {
      if (isAbort(error)) return;
      if (!(error instanceof ReenactError)) throw error;
      showFeedback(errorText(error), true);
    } finally {
      this.#setBusy(false);
    }
  }

  /**
   * Wait for the portraits that the run begins with: they come first. Throws ReenactError where that takes too long.
   * @param {string} query
   * @param {AbortSignal} signal
   */
  async #portraitsReady(query, signal) {
    for (let waited = 0; waited < READY_MS && query === this.control.query; waited += STEP_MS) {
      if (signal.aborted || (state.run && this.gallery.holds(query, state.run.portraits || 0))) return;
      await wait(STEP_MS, signal);
    }
    throw new ReenactError({ code: CODES.notReady, found: t("error.notReady"), cure: t("error.notReady.cure") });
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    el("add").toggleAttribute("data-busy", busy);
    el("add-text").textContent = t(busy ? "add.busy" : "add");
  }
}

/** Return what the user chose to do with a picture of another shape; empty leaves it to the server. */
function chosenFit() {
  const chosen = el("fit").querySelector("input:checked");
  return chosen instanceof HTMLInputElement ? chosen.value : "";
}

/**
 * Send a picture to a session, or with an empty query to the main run. Return the new portrait. Throws ReenactError.
 * @param {File} file
 * @param {string} query
 * @param {AbortSignal} signal
 * @param {Right} right
 * @param {string} [fit]
 * @returns {Promise<{index: number, name: string}>}
 */
export async function uploadPicture(file, query, signal, right, fit = "") {
  checkFile(file);
  const name = encodeURIComponent(file.name.replace(/\.[^.]*$/, "").slice(0, MAX_NAME));
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  const options = `name=${name}&consent=${right}${fit && `&fit=${fit}`}`;
  return fetchJson(`api/portraits${query ? `${query}&` : "?"}${options}`, { method: "POST", headers, body: file, signal });
}

/**
 * Send an image as the background of a session, or with an empty query of the main run. Throws ReenactError.
 * @param {File} file
 * @param {string} query
 * @param {AbortSignal} signal
 * @returns {Promise<{name: string}>}
 */
export async function uploadBackground(file, query, signal) {
  checkFile(file);
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  return fetchJson(`api/background${query}`, { method: "POST", headers, body: file, signal });
}

/**
 * Throw a ReenactError for a file that is too large or no picture.
 * @param {File} file
 */
function checkFile(file) {
  if (file.size > MAX_MIB << 20) {
    const found = t("error.tooLarge", { size: (file.size / (1 << 20)).toFixed(0) });
    throw new ReenactError({ code: CODES.tooLarge, found, expected: t("error.tooLarge.expected", { size: MAX_MIB }) });
  }
  if (file.type && !file.type.startsWith("image/")) {
    throw new ReenactError({ code: CODES.notPicture, found: t("error.notPicture", { name: file.name }), expected: t("error.notPicture.expected") });
  }
}

/**
 * Accept a file that is dropped anywhere on the page. `hint` is shown while one is over it.
 * @param {HTMLElement} hint
 * @param {(file: File) => void} onFile
 */
export function acceptDrops(hint, onFile) {
  let depth = 0;
  const carriesFile = (/** @type {DragEvent} */ event) => [...(event.dataTransfer?.types || [])].includes("Files");
  const listen = (/** @type {"dragenter" | "dragover" | "dragleave" | "drop"} */ kind, /** @type {(event: DragEvent) => void} */ act) => {
    addEventListener(kind, (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      act(event);
    });
  };
  listen("dragover", () => {});
  listen("dragenter", () => {
    depth += 1;
    hint.hidden = false;
  });
  listen("dragleave", () => {
    depth -= 1;
    hint.hidden = depth <= 0;
  });
  listen("drop", (event) => {
    depth = 0;
    hint.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (file) onFile(file);
  });
}
