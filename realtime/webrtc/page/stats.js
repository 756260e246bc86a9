// What the browser knows about the way to reenact and back, out of getStats.

/** Mean over what was counted since the last reading. */
class Rate {
  #total = 0;
  #count = 0;

  read(total, count) {
    const [more, n] = [total - this.#total, count - this.#count];
    [this.#total, this.#count] = [total, count];
    return n > 0 && more >= 0 ? more / n : null;
  }
}

/** Reads one peer connection; a new one for each. */
export class Figures {
  #encode = new Rate();
  #sending = new Rate();
  #buffer = new Rate();
  #decode = new Rate();
  #dropped = 0;

  constructor(pc) {
    this.pc = pc;
  }

  /** Milliseconds one way, milliseconds of coding and waiting in the browser, frames dropped there since the last. */
  async read() {
    const reports = [...(await this.pc.getStats()).values()];
    const pair = reports.find((each) => each.type === "candidate-pair" && each.nominated && each.state === "succeeded");
    const path = pair && pair.currentRoundTripTime !== undefined ? (pair.currentRoundTripTime * 1000) / 2 : 0;
    let coding = 0;
    let dropped = 0;
    for (const each of reports) {
      if (each.kind !== "video") continue;
      if (each.type === "outbound-rtp") {
        coding += 1000 * (this.#encode.read(each.totalEncodeTime, each.framesEncoded) || 0);
        coding += 1000 * (this.#sending.read(each.totalPacketSendDelay, each.packetsSent) || 0);
      } else if (each.type === "inbound-rtp") {
        coding += 1000 * (this.#buffer.read(each.jitterBufferDelay, each.jitterBufferEmittedCount) || 0);
        coding += 1000 * (this.#decode.read(each.totalDecodeTime, each.framesDecoded) || 0);
        dropped = Math.max(0, each.framesDropped - this.#dropped);
        this.#dropped = each.framesDropped;
      }
    }
    return { ms: path + coding, dropped };
  }
}
