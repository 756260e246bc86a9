// The one error of the page: what the server answered, or what the page itself could not do.

import { t } from "./words/language.js";

/**
 * The members of an error on the wire, as RFC 9457 problem details or in a control message.
 * @typedef {{code?: string, found?: string, expected?: string, cure?: string}} ErrorFields
 */

/** Codes of errors that the page raises itself. All other codes come from the server. */
export const CODES = Object.freeze({
  unreachable: "server-unreachable",
  foreign: "answer-not-from-reenact",
  lost: "connection-lost",
  ended: "connection-ended",
  timeout: "connection-timeout",
  noReply: "command-no-reply",
  tooLarge: "picture-too-large",
  notPicture: "picture-wrong-type",
  notReady: "session-not-ready",
});

/** An error with a stable `code` for the program and sentences for the user. */
export class ReenactError extends Error {
  /**
   * @param {ErrorFields & {code: string, status?: ?number, retryAfterS?: ?number}} fields `status` is the HTTP status,
   *   null for what came another way; `retryAfterS` is when to try again, null where the server did not say
   */
  constructor({ code, status = null, found = "", expected = "", cure = "", retryAfterS = null }) {
    super(expected ? `${found}, expected ${expected}` : found || code);
    this.name = "ReenactError";
    this.code = code;
    this.status = status;
    this.found = found;
    this.expected = expected;
    this.cure = cure;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the program is only out of reach for now: it does not run, or a proxy in front of it says so. */
  get temporary() {
    if (this.code === CODES.unreachable) return true;
    const { status } = this;
    return this.code === CODES.foreign && status !== null && (status >= 500 || status === 408 || status === 429);
  }

  /**
   * Return the error that an HTTP answer describes. An answer without a code does not come from the program.
   * @param {Response} response
   * @returns {Promise<ReenactError>}
   */
  static async fromResponse(response) {
    const { status } = response;
    const retryAfterS = Number(response.headers.get("Retry-After")) || null;
    const fields = await response.json().catch(() => null);
    if (fields && typeof fields.code === "string") return new ReenactError({ ...fields, status, retryAfterS });
    return new ReenactError({ code: CODES.foreign, status, found: t("error.foreign", { status }), retryAfterS });
  }
}
