// The person's camera: opened on request, changed, and taken up again when it comes back.

export class Camera {
  constructor(select, { lost }) {
    this.select = select;
    this.lost = lost;
    this.stream = null;
    this.turn = 0; // counts what was opened and closed
  }

  get track() {
    return this.stream ? this.stream.getVideoTracks()[0] : null;
  }

  /** Whether pictures come: one that was unplugged is kept until another is opened. */
  get live() {
    return this.track !== null && this.track.readyState === "live";
  }

  /** Open the chosen camera; null where it was closed or opened anew meanwhile. Throws what getUserMedia throws. */
  async open() {
    if (!navigator.mediaDevices) throw new DOMException("no camera on an insecure page", "SecurityError");
    const wanted = this.select.value;
    const video = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    // many systems give a camera to one taker only: let go of the old one first
    this.close();
    const { turn } = this;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: wanted ? { ...video, deviceId: { exact: wanted } } : video });
    } catch (error) {
      if (error.name !== "OverconstrainedError") throw error;
      stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: true });
    }
    if (turn !== this.turn) {
      stop(stream);
      return null;
    }
    this.stream = stream;
    const { track } = this;
    track.addEventListener("ended", () => {
      if (this.track === track) this.lost();
    });
    await this.list();
    return turn === this.turn ? track : null;
  }

  /** Fill the picker; names are known only once a camera was allowed. */
  async list() {
    if (!navigator.mediaDevices) return [];
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
    const current = this.track ? this.track.getSettings().deviceId : this.select.value;
    const named = devices.filter((each) => each.deviceId);
    if (named.length) {
      this.select.replaceChildren(...named.map((each, index) => new Option(each.label || `Camera ${index + 1}`, each.deviceId)));
      if (named.some((each) => each.deviceId === current)) this.select.value = current;
    }
    return devices;
  }

  close() {
    const old = this.stream;
    this.stream = null;
    this.turn += 1;
    if (old) stop(old);
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
