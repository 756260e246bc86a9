// Asks the server twice a second what it does, and whether it is there at all.

import { ReenactError } from "../errors.js";
import { wait } from "./retry.js";
import { fetchJson, isAbort } from "./server.js";
import { state } from "../state.js";

/** @typedef {import("../state.js").RunState} RunState */

const POLL_MS = 1000;
const POLL_RUN_MS = 500;
const SILENT_MS = 2500;

/**
 * What the server says.
 * @typedef {object} PollHandlers
 * @property {(run: RunState) => void} main there is a main run
 * @property {() => void} idle there is none
 * @property {(run: RunState) => void} session the state of the user's session
 * @property {() => void} sessionGone the server does not know the session any more
 * @property {() => void} unreachable the program does not run, or a proxy does not reach it
 * @property {(error: ReenactError) => void} refused the server refuses for good
 * @property {() => Promise<void>} after is called after each round
 */

/** Polls as long as the page is open. */
export class Poller {
  /**
   * @param {import("../modes.js").ModeMachine} modes
   * @param {import("./control.js").Control} control
   * @param {PollHandlers} handlers
   */
  constructor(modes, control, handlers) {
    this.modes = modes;
    this.control = control;
    this.handlers = handlers;
  }

  /** Poll until the page is left. A mode that is entered cuts the pause short. */
  async run() {
    while (!this.modes.ended) {
      await this.#poll();
      await this.handlers.after();
      await wait(this.modes.current.controls ? POLL_RUN_MS : POLL_MS, this.modes.signal);
    }
  }

  async #poll() {
    const { signal } = this.modes;
    const { polls } = this.modes.current;
    try {
      if (polls === "session") await this.#pollSession(signal);
      else if (polls === "program") await this.#pollProgram(signal);
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      if (!(error instanceof ReenactError)) throw error;
      if (polls === "session") {
        // the connection may not have noticed
        if (error.status === 404) this.handlers.sessionGone();
      } else if (error.temporary) {
        this.handlers.unreachable();
      } else {
        this.handlers.refused(error);
      }
    }
  }

  /** @param {AbortSignal} signal */
  async #pollSession(signal) {
    // the channel brings states by itself, unless it is stuck
    const heardAt = Math.max(this.control.stateAt, state.runAt);
    if (!state.publisher || performance.now() - heardAt <= SILENT_MS) return;
    const run = await fetchJson(`api/state${this.control.query}`, { signal });
    if (!signal.aborted) this.handlers.session(run);
  }

  /** @param {AbortSignal} signal */
  async #pollProgram(signal) {
    const { main } = await fetchJson("api/state", { signal });
    if (signal.aborted) return;
    if (main) this.handlers.main(main);
    else this.handlers.idle();
  }
}
