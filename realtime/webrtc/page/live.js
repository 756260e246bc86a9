// The user's session: this browser's camera drives the portrait.

import { lastPart, publish } from "./network/connection.js";
import { CODES, ReenactError } from "./errors.js";
import { showHeard, showMicrophone } from "./microphone.js";
import { keepConnected, wait } from "./network/retry.js";
import { commandsFor } from "./settings.js";
import { state } from "./state.js";
import { ConnectionStats } from "./stats.js";
import { announceNow, showOverlay, showPreview, showStatus } from "./view.js";
import { t } from "./words/language.js";
import { MICROPHONE_LOST, cameraErrorText, microphoneErrorText } from "./words.js";

/** @typedef {import("./network/connection.js").Peer} Peer */

const REOPEN_MS = 2000;
const READ_S = 5;
const UNPLUGGED = t("camera.unplugged");

/** Goes live with the camera, and keeps the session over broken connections. */
export class LiveSession {
  /**
   * @param {object} parts
   * @param {import("./modes.js").ModeMachine} parts.modes
   * @param {import("./network/control.js").Control} parts.control
   * @param {import("./camera.js").Camera} parts.camera
   * @param {import("./microphone.js").Microphone} parts.microphone
   * @param {import("./network/player.js").Player} parts.player
   * @param {import("./interruptions.js").Interruptions} parts.interruptions
   * @param {(id: ?string) => void} parts.share is told what can be watched now
   */
  constructor({ modes, control, camera, microphone, player, interruptions, share }) {
    this.modes = modes;
    this.control = control;
    this.camera = camera;
    this.microphone = microphone;
    this.player = player;
    this.interruptions = interruptions;
    this.share = share;
  }

  /** Ask for the camera and go live, until the mode is left. */
  async start() {
    state.awaitsCamera = false;
    const signal = this.modes.enter("live");
    const cancel = /** @type {import("./view.js").Action} */ ([t("cancel"), this.interruptions.leave]);
    this.player.showStill();
    showStatus("calm", t("status.asking"));
    const text = t("allow.text", { host: location.host });
    showOverlay({ title: t("allow.title"), text, actions: [cancel] });
    try {
      if ((await this.camera.open()) === null) return;
    } catch (error) {
      if (!signal.aborted) this.interruptions.refuseCamera(error, () => this.start());
      return;
    }
    showPreview(this.camera.stream, "");
    this.openMicrophone();
    showStatus("calm", t("status.connecting"));
    showOverlay({ title: t("status.connecting"), text: t("connecting.text"), actions: [cancel] });
    await keepConnected({
      open: (within) => publish(/** @type {MediaStreamTrack} */ (this.camera.track), state.settings !== null, within),
      up: (peer) => this.#published(peer, signal),
      down: () => this.#broken(),
      pause: (error, waitMs) => this.interruptions.pause(error, waitMs, false),
      signal,
    });
  }

  /**
   * Report that the session has failed, long enough that the user can read why.
   * @param {ReenactError} error
   */
  fail({ code, found, expected, cure }) {
    state.publisher?.fail(new ReenactError({ code, found, expected, cure, retryAfterS: READ_S }));
  }

  /**
   * @param {Peer} peer
   * @param {AbortSignal} signal
   */
  #published(peer, signal) {
    state.publisher = peer;
    state.publisherStats = new ConnectionStats(peer.pc);
    state.runAt = performance.now();
    this.control.attach(peer.session, peer.control);
    const ending = new AbortController();
    signal.addEventListener("abort", () => ending.abort(), { signal: ending.signal });
    peer.broken.then(() => ending.abort());
    this.share(lastPart(peer.watch));
    if (peer.watch) this.player.play(peer.watch, ending.signal);
    if (peer.held) this.#restore(peer);
    else this.#sendSound(peer);
  }

  /**
   * Give a connection the microphone's track, if there is one.
   * @param {?Peer} peer
   */
  #sendSound(peer) {
    // a connection that has closed meanwhile takes no track
    if (peer && !peer.held) peer.soundSender?.replaceTrack(this.microphone.track).catch(() => {});
  }

  /** Ask for the microphone and send its sound; without one, say so. The picture does not wait for it. */
  async openMicrophone() {
    const { signal } = this.modes;
    showMicrophone("");
    try {
      if ((await this.microphone.open()) === null || signal.aborted) return;
      showHeard(this.microphone, { ...state.run, ...state.settings }.muted === true);
    } catch (error) {
      if (signal.aborted) return;
      showMicrophone(microphoneErrorText(error), true);
    }
    this.#sendSound(state.publisher);
  }

  /** Go on in silence after the microphone was unplugged. */
  microphoneLost() {
    this.#sendSound(state.publisher);
    showMicrophone(MICROPHONE_LOST, true);
    announceNow(MICROPHONE_LOST);
  }

  #broken() {
    // a session that never had a state leaves nothing to bring back
    state.settings ??= state.run;
    if (state.uploaded) state.wish.file ??= state.uploaded;
    state.publisher = null;
    showStatus("warn", t("status.lost"));
  }

  /**
   * Give a new session the settings of the last one, and only then the camera's picture: viewers never see what the
   * user had hidden.
   * @param {Peer} peer
   */
  async #restore(peer) {
    try {
      for (const [command, value] of state.settings ? commandsFor(state.settings) : []) {
        // the user's own picture is sent again, and gets another number
        if (command !== "set_portrait" || !state.uploaded) await this.control.send(command, value);
        // commands would go to another session by now
        if (state.publisher !== peer) return;
      }
      peer.held = false;
      await peer.sender?.replaceTrack(this.camera.track);
      this.#sendSound(peer);
    } catch (error) {
      // the connection broke meanwhile
      if (state.publisher !== peer) return;
      if (error instanceof ReenactError) {
        this.fail(error);
        return;
      }
      peer.end(CODES.lost);
      throw error;
    }
  }

  /** Wait for a camera after the open one went away, and use it. */
  async replaceCamera() {
    showPreview(null, UNPLUGGED);
    announceNow(`${UNPLUGGED}.`);
    const { signal } = this.modes;
    while (!signal.aborted) {
      await wait(REOPEN_MS, signal);
      if (signal.aborted || this.camera.live || (await this.reopenCamera())) return;
    }
  }

  /** Open the camera that is chosen now. Return whether it is sent. */
  async reopenCamera() {
    const { signal } = this.modes;
    try {
      const track = await this.camera.open();
      if (track === null) return false;
      track.contentHint = "motion";
      const { publisher } = state;
      if (publisher && !publisher.held) await publisher.sender?.replaceTrack(track);
      showPreview(this.camera.stream, "");
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const { title, text } = cameraErrorText(error);
      showPreview(null, `${title}. ${text}`);
      return false;
    }
  }
}
