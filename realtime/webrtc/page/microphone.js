// The user's microphone. The camera does not depend on it: without one the picture goes out in silence.

import { el } from "./view.js";
import { t } from "./words/language.js";

/** One microphone at a time: the browser's default one. */
export class Microphone {
  /** Counts what was opened and closed: what was asked for before does not count any more. */
  #turn = 0;

  /** @param {{lost: () => void}} handlers `lost` is called when the open microphone is unplugged or taken away */
  constructor({ lost }) {
    this.lost = lost;
    /** @type {?MediaStreamTrack} */
    this.track = null;
  }

  /**
   * Ask for the microphone and return its track; null where it was closed or opened again meanwhile.
   * Throws what getUserMedia throws.
   */
  async open() {
    this.close();
    const turn = this.#turn;
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: false });
    const [track] = stream.getAudioTracks();
    if (turn !== this.#turn) {
      track.stop();
      return null;
    }
    this.track = track;
    track.addEventListener("ended", () => {
      if (this.track !== track) return;
      this.track = null;
      this.lost();
    });
    return track;
  }

  /** Close the microphone. Idempotent. */
  close() {
    const old = this.track;
    this.track = null;
    this.#turn += 1;
    old?.stop();
  }
}

/**
 * Show whether viewers hear the user, while a microphone is open. Otherwise what was said of it stays.
 * @param {Microphone} microphone
 * @param {boolean} muted
 */
export function showHeard(microphone, muted) {
  if (microphone.track) showMicrophone(t(muted ? "microphone.muted" : "microphone.on"));
}

/**
 * Show what becomes of the user's sound.
 * @param {string} text
 * @param {boolean} [warn]
 */
export function showMicrophone(text, warn = false) {
  // screen readers announce what is written, also where it is the same
  if (el("microphone-note").textContent !== text) el("microphone-note").textContent = text;
  el("microphone-note").classList.toggle("warn", warn);
}
