// The control desk: commands out, state in. Over the data channel where there is one, otherwise over HTTP.

import { Refusal } from "./connection.js";
import { problemText } from "./words.js";

const REPLY_MS = 5000;

export class Desk {
  #channel = null;
  #waiting = new Map();
  #next = 1;

  /**
   * What arrives on the channel by itself goes to ``hear``: each state, notices in words (with whether it is a warning),
   * and what the session failed of, in three parts.
   * @param {{state: (state: object) => void, notice: (text: string, warn: boolean) => void, failed: (problem: object) => void}} hear
   */
  constructor(hear) {
    this.hear = hear;
    /** Secret of the session that is controlled; null is the main run. */
    this.session = null;
    this.heardAt = 0;
  }

  /** Control a session, or with null the main run. */
  attach(session, channel = null) {
    this.session = session;
    this.#channel = channel;
    this.heardAt = 0;
    if (channel) channel.addEventListener("message", ({ data }) => this.#heard(channel, data));
  }

  get query() {
    return this.session === null ? "" : `?session=${encodeURIComponent(this.session)}`;
  }

  /** Have a command carried out; what was said about it. Throws Refusal. */
  async send(command, value) {
    const request = { v: 1, id: this.#next++, command };
    if (value !== undefined) request.value = value;
    const reply = (await this.#overChannel(request)) || (await this.#overHttp(request));
    if (!reply.ok) throw new Refusal(400, reply.error, null);
    return reply.said || "";
  }

  #overChannel(request) {
    const channel = this.#channel;
    if (!channel || channel.readyState !== "open") return null;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(request.id);
        resolve({ ok: false, error: { found: "no answer from reenact", cure: "try again" } });
      }, REPLY_MS);
      this.#waiting.set(request.id, (reply) => {
        clearTimeout(timer);
        resolve(reply);
      });
      channel.send(JSON.stringify(request));
    });
  }

  async #overHttp(request) {
    const response = await fetch(`/api/control${this.query}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    if (response.ok) return response.json();
    throw await Refusal.of(response);
  }

  #heard(channel, data) {
    if (channel !== this.#channel) return;
    const message = JSON.parse(data);
    if (message.state) {
      this.heardAt = performance.now();
      this.hear.state(message.state);
    } else if (message.notice) {
      this.hear.notice(message.notice, false);
    } else if (this.#waiting.has(message.id)) {
      this.#waiting.get(message.id)(message);
      this.#waiting.delete(message.id);
    } else if (message.error && message.ok === false) {
      // a command was refused before anybody looked at its id
      this.hear.notice(problemText(message.error), true);
    } else if (message.error) {
      this.hear.failed(message.error);
    }
  }
}

/** JSON from the server. Throws Refusal, or TypeError where the server is not reached. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (!response.ok) throw await Refusal.of(response);
  return response.json();
}
