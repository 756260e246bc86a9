// Commands to the server and the state it sends back: over the data channel where there is one, otherwise over HTTP.

import { CODES, ReenactError } from "../errors.js";
import { t } from "../words/language.js";
import { request } from "./server.js";

const REPLY_MS = 5000;
const VERSION = 1;

/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {boolean | number | string | Record<string, number | string>} Value the value of a command */
/** @typedef {{id?: number, ok?: boolean, said?: string, error?: import("../errors.js").ErrorFields}} Reply */

/**
 * What the server sends without being asked.
 * @typedef {object} Handlers
 * @property {(state: RunState) => void} state a new state
 * @property {(text: string) => void} notice a sentence for the user
 * @property {(error: ReenactError) => void} refused a message was refused before its id was read
 * @property {(error: ReenactError) => void} failed the session has failed
 */

/** Sends commands to one run: a session, or the main run. */
export class Control {
  /** @type {?RTCDataChannel} */
  #channel = null;
  /** @type {Map<number, (reply: Reply) => void>} */
  #waiting = new Map();
  #nextId = 1;

  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** The secret of the session that is controlled; null is the main run. @type {?string} */
    this.session = null;
    /** When the last state came over the channel, in ms since the page was opened. */
    this.stateAt = 0;
  }

  /**
   * Control a session, or with null the main run.
   * @param {?string} session
   * @param {?RTCDataChannel} [channel]
   */
  attach(session, channel = null) {
    this.session = session;
    this.#channel = channel;
    this.stateAt = 0;
    if (channel) channel.addEventListener("message", ({ data }) => this.#receive(channel, data));
  }

  /** The query string that names the session. */
  get query() {
    return queryOf(this.session);
  }

  /**
   * Send a command and return what the server says of it. Throws ReenactError.
   * @param {string} command
   * @param {Value} [value] null and undefined are left out
   */
  async send(command, value) {
    const message = { v: VERSION, id: this.#nextId++, command, ...(value === undefined ? {} : { value }) };
    const reply = await (this.#overChannel(message) || this.#overHttp(message));
    if (!reply.ok) throw errorOf(reply);
    return reply.said || "";
  }

  /**
   * @param {{id: number}} message
   * @returns {?Promise<Reply>} null where there is no channel
   */
  #overChannel(message) {
    const channel = this.#channel;
    if (!channel || channel.readyState !== "open") return null;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(message.id);
        resolve({ ok: false, error: { code: CODES.noReply, found: t("error.noReply"), cure: t("error.noReply.cure") } });
      }, REPLY_MS);
      this.#waiting.set(message.id, (reply) => {
        clearTimeout(timer);
        resolve(reply);
      });
      channel.send(JSON.stringify(message));
    });
  }

  /**
   * @param {object} message
   * @returns {Promise<Reply>}
   */
  async #overHttp(message) {
    const headers = { "Content-Type": "application/json" };
    const response = await request(`api/control${this.query}`, { method: "POST", headers, body: JSON.stringify(message) });
    if (!response.ok) throw await ReenactError.fromResponse(response);
    return response.json();
  }

  /**
   * @param {RTCDataChannel} channel
   * @param {string} data
   */
  #receive(channel, data) {
    if (channel !== this.#channel) return;
    const message = JSON.parse(data);
    const answer = this.#waiting.get(message.id);
    if (message.state) {
      this.stateAt = performance.now();
      this.handlers.state(message.state);
    } else if (message.notice) {
      this.handlers.notice(message.notice);
    } else if (answer) {
      this.#waiting.delete(message.id);
      answer(message);
    } else if (message.error && message.ok === false) {
      this.handlers.refused(errorOf(message));
    } else if (message.error) {
      this.handlers.failed(errorOf(message));
    }
  }
}

/**
 * Return the query string that names a session; the main run has none.
 * @param {?string} session
 */
export function queryOf(session) {
  return session === null ? "" : `?session=${encodeURIComponent(session)}`;
}

/** @param {Reply} reply */
function errorOf(reply) {
  const error = reply.error || {};
  return new ReenactError({ ...error, code: error.code || CODES.foreign });
}
