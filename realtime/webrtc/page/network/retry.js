// Connections that are opened again when they break.

import { CODES, ReenactError } from "../errors.js";
import { t } from "../words/language.js";

const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 15000];

/** @typedef {import("./connection.js").Peer} Peer */

/**
 * Keep a connection open until `signal` aborts. When it breaks, open it again after a pause that grows.
 *
 * @param {object} options
 * @param {(signal: AbortSignal) => Promise<Peer>} options.open opens a connection
 * @param {(peer: Peer) => void | Promise<void>} options.up is called when media can flow
 * @param {() => void} options.down is called when a connection that was up has broken
 * @param {(error: ReenactError, waitMs: number) => boolean | Promise<void>} options.pause is told why and for how long
 *   the next attempt waits; it returns false to give up, or a promise that ends the wait when it settles
 * @param {AbortSignal} options.signal
 */
export async function keepConnected({ open, up, down, pause, signal }) {
  let failures = 0;
  while (!signal.aborted) {
    let reason;
    try {
      const peer = await open(signal);
      const failed = await Promise.race([peer.connected.then(() => null), peer.broken]);
      if (failed === null) {
        failures = 0;
        await up(peer);
        reason = await peer.broken;
        if (!signal.aborted) down();
      } else {
        reason = failed;
      }
      peer.close();
    } catch (error) {
      reason = error;
    }
    if (signal.aborted) return;
    const error = asReenactError(reason);
    const pauseMs = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
    failures += 1;
    const waitMs = error.retryAfterS ? error.retryAfterS * 1000 : pauseMs * (0.8 + 0.4 * Math.random());
    const sooner = pause(error, waitMs);
    if (sooner === false) return;
    await wait(waitMs, signal, sooner);
  }
}

/**
 * Wait for `ms` milliseconds, or less when the signal aborts or `sooner` settles.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @param {boolean | Promise<void>} [sooner]
 * @returns {Promise<void>}
 */
export function wait(ms, signal, sooner) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
    if (sooner instanceof Promise) sooner.then(end);
  });
}

/**
 * @param {unknown} reason
 * @returns {ReenactError}
 */
function asReenactError(reason) {
  if (reason instanceof ReenactError) return reason;
  // a browser without a codec, or a bug: the user can only try again, the console has the rest
  console.error(reason);
  return new ReenactError({ code: CODES.lost, found: t("error.lost") });
}
