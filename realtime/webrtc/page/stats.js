// Where the time of a frame goes: what the browser measures itself (getStats) and what the server says.

/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {{ms: number, dropped: number}} Reading time in the browser and on the way, in ms; frames dropped */

/** The mean of what was counted since the last reading. */
class Mean {
  #total = 0;
  #count = 0;

  /**
   * Return the mean since the last reading; 0 where nothing was counted.
   * @param {number} total
   * @param {number} count
   */
  read(total, count) {
    const [more, n] = [total - this.#total, count - this.#count];
    [this.#total, this.#count] = [total, count];
    return n > 0 && more >= 0 ? more / n : 0;
  }
}

/** Reads one peer connection. */
export class ConnectionStats {
  #encode = new Mean();
  #pace = new Mean();
  #buffer = new Mean();
  #decode = new Mean();
  #dropped = 0;

  /** @param {RTCPeerConnection} pc */
  constructor(pc) {
    this.pc = pc;
  }

  /**
   * Return the time that a frame spends on the way and in the browser, and the frames dropped there since the last call.
   * @returns {Promise<Reading>}
   */
  async read() {
    /** @type {any[]} */
    const reports = [...(await this.pc.getStats()).values()];
    const pair = reports.find((each) => each.type === "candidate-pair" && each.nominated && each.state === "succeeded");
    let ms = pair?.currentRoundTripTime === undefined ? 0 : (pair.currentRoundTripTime * 1000) / 2;
    let dropped = 0;
    for (const each of reports.filter((report) => report.kind === "video")) {
      if (each.type === "outbound-rtp") {
        ms += 1000 * this.#encode.read(each.totalEncodeTime, each.framesEncoded);
        ms += 1000 * this.#pace.read(each.totalPacketSendDelay, each.packetsSent);
      } else if (each.type === "inbound-rtp") {
        ms += 1000 * this.#buffer.read(each.jitterBufferDelay, each.jitterBufferEmittedCount);
        ms += 1000 * this.#decode.read(each.totalDecodeTime, each.framesDecoded);
        const total = each.framesDropped || 0;
        dropped = Math.max(0, total - this.#dropped);
        this.#dropped = total;
      }
    }
    return { ms, dropped };
  }
}

/**
 * Return how long each stage of a frame takes, in ms.
 * @param {RunState} run
 * @param {?Reading} sent of the camera's pictures; null where this browser sends none
 * @param {?Reading} received of the portrait; null where it is not shown yet
 * @returns {Record<string, number>}
 */
export function stagesOf(run, sent, received) {
  /** @type {Record<string, number>} */
  const stages = {};
  if (sent) stages.camera = sent.ms;
  for (const [name, { p50 }] of Object.entries(run.stages_ms || {})) stages[name] = p50;
  const computing = (stages.track || 0) + (stages.generate || 0);
  if (run.age_ms && run.age_ms.p50 > computing) stages.send = run.age_ms.p50 - computing;
  if (received) stages.back = received.ms;
  return stages;
}

/**
 * Return the frames that a run has dropped so far, wherever that was.
 * @param {RunState} run
 */
export function droppedIn(run) {
  return Object.values(run.dropped || {}).reduce((total, each) => total + (Number(each) || 0), 0);
}
