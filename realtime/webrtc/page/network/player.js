// The portrait on the page: a live stream, or a still picture while there is none.

import { watch } from "./connection.js";
import { keepConnected } from "./retry.js";
import { state } from "../state.js";
import { ConnectionStats } from "../stats.js";
import { t } from "../words/language.js";
import { el, hideOverlay, showStatus, showStill } from "../view.js";

/** Plays one stream at a time. */
export class Player {
  /**
   * @param {object} parts
   * @param {import("../modes.js").ModeMachine} parts.modes
   * @param {{picture: ?string}} parts.gallery
   * @param {import("../interruptions.js").Interruptions} parts.interruptions
   */
  constructor({ modes, gallery, interruptions }) {
    this.modes = modes;
    this.gallery = gallery;
    this.interruptions = interruptions;
  }

  get #video() {
    return el("result", HTMLVideoElement);
  }

  /** Show the user's own picture, or the portrait that is chosen, until the stream is there. */
  showStill() {
    showStill(state.wish.file ?? this.gallery.picture);
  }

  /** Connect the buttons for the sound and the full screen. */
  connect() {
    el("hear").addEventListener("click", () => this.#toggleSound());
    el("fullscreen").addEventListener("click", () => {
      const video = /** @type {HTMLVideoElement & {webkitEnterFullscreen?: () => void}} */ (this.#video);
      if (document.fullscreenElement) document.exitFullscreen();
      else if ("requestFullscreen" in document.body) el("picture").requestFullscreen();
      else video.webkitEnterFullscreen?.();
    });
  }

  /** Play the sound, or not any more. */
  #toggleSound() {
    const video = this.#video;
    video.muted = !video.muted;
    showSound(!video.muted);
    if (video.paused) video.play().catch(() => {});
  }

  /** Show no stream. */
  clear() {
    this.#video.srcObject = null;
    this.#video.hidden = true;
    el("hear").hidden = true;
  }

  /**
   * Play a stream until the signal aborts; open it again when it breaks.
   * @param {string} address
   * @param {AbortSignal} signal
   */
  play(address, signal) {
    return keepConnected({
      // those who drive do not hear themselves
      open: (within) => watch(address, this.modes.name === "watch", (stream) => this.#attach(stream, signal), within),
      up: (peer) => {
        state.viewerStats = new ConnectionStats(peer.pc);
      },
      down: () => {
        showStatus("warn", t("status.lost"));
        this.#video.hidden = true;
        this.showStill();
      },
      pause: (error, waitMs) => {
        if (this.modes.name === "watch") this.#video.hidden = true;
        return this.interruptions.pause(error, waitMs, true);
      },
      signal,
    });
  }

  /**
   * @param {MediaStream} stream
   * @param {AbortSignal} signal
   */
  #attach(stream, signal) {
    const video = this.#video;
    video.srcObject = stream;
    const shown = () => {
      // a track that ends before its first picture shows a black one
      const ended = stream.getVideoTracks()[0].readyState === "ended";
      if (signal.aborted || video.srcObject !== stream || ended) return;
      video.hidden = false;
      el("picture").style.setProperty("--ratio", `${video.videoWidth} / ${video.videoHeight}`);
      el("fullscreen").hidden = false;
      showStill(null);
      hideOverlay();
      showStatus("good", t(this.modes.name === "watch" ? "status.watching" : "status.live"));
    };
    const [sound] = stream.getAudioTracks();
    // it is muted until the first packet arrives; browsers play sound only after a click
    sound?.addEventListener("unmute", () => {
      if (video.srcObject === stream) el("hear").hidden = false;
    });
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(shown);
    else /** @type {HTMLVideoElement} */ (video).addEventListener("playing", shown, { once: true });
    // it starts muted, which browsers allow; where one still refuses, the user presses play
    video.play().catch(() => {});
  }
}

/**
 * Show whether a viewer hears the sound.
 * @param {boolean} on
 */
function showSound(on) {
  el("hear").setAttribute("aria-pressed", String(on));
  el("hear-text").textContent = t(on ? "hear.on" : "hear.off");
}
