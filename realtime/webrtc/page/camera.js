// The user's camera: opened on request, changed, and opened again when it comes back.

import { t } from "./words/language.js";

const SIZE = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };

/** One camera at a time, which the user chooses from a list. */
export class Camera {
  /** Counts what was opened and closed: what was asked for before does not count any more. */
  #turn = 0;

  /**
   * @param {HTMLSelectElement} select lists the cameras
   * @param {{lost: () => void}} handlers `lost` is called when the open camera is unplugged or taken away
   */
  constructor(select, { lost }) {
    this.select = select;
    this.lost = lost;
    /** @type {?MediaStream} */
    this.stream = null;
  }

  get track() {
    return this.stream ? this.stream.getVideoTracks()[0] : null;
  }

  /** Whether pictures come. One that was unplugged is kept until another is opened. */
  get live() {
    return this.track !== null && this.track.readyState === "live";
  }

  /**
   * Open the chosen camera and return its track; null where it was closed or opened again meanwhile.
   * Throws what getUserMedia throws.
   */
  async open() {
    if (!navigator.mediaDevices) throw new DOMException("no camera on an insecure page", "SecurityError");
    // many systems let only one program use a camera: release the old one first
    this.close();
    const turn = this.#turn;
    const stream = await this.#request(this.select.value);
    if (turn !== this.#turn) {
      stop(stream);
      return null;
    }
    this.stream = stream;
    const { track } = this;
    track?.addEventListener("ended", () => {
      if (this.track === track) this.lost();
    });
    await this.list();
    return turn === this.#turn ? track : null;
  }

  /** @param {string} deviceId the empty string for any camera */
  async #request(deviceId) {
    try {
      const video = deviceId ? { ...SIZE, deviceId: { exact: deviceId } } : SIZE;
      return await navigator.mediaDevices.getUserMedia({ audio: false, video });
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "OverconstrainedError") throw error;
      return navigator.mediaDevices.getUserMedia({ audio: false, video: true });
    }
  }

  /** Fill the list and return the cameras. Their names are known only once a camera was allowed. */
  async list() {
    if (!navigator.mediaDevices) return [];
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
    const current = this.track ? this.track.getSettings().deviceId : this.select.value;
    const named = devices.filter((each) => each.deviceId);
    if (named.length) {
      this.select.replaceChildren(...named.map((each, index) => new Option(each.label || t("camera.numbered", { number: index + 1 }), each.deviceId)));
      if (current && named.some((each) => each.deviceId === current)) this.select.value = current;
    }
    return devices;
  }

  /** Close the camera. Idempotent. */
  close() {
    const old = this.stream;
    this.stream = null;
    this.#turn += 1;
    if (old) stop(old);
  }
}

/** @param {MediaStream} stream */
function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
