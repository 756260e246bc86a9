// Requests to the server. Every address is relative to the page, so that a proxy may serve it below any path.

import { CODES, ReenactError } from "../errors.js";
import { t } from "../words/language.js";

/**
 * Return the absolute URL of an address that the page or the server names, such as `api/state` or a `Location`.
 *
 * The server does not know below which path a proxy serves it: absolute paths are moved below the page's own.
 * @param {string} address
 * @param {string} [base] what a relative address is relative to; the page where left out
 * @returns {string}
 */
export function urlOf(address, base = location.href) {
  const root = new URL(".", location.href);
  const url = new URL(address, base);
  if (url.origin !== root.origin || url.pathname.startsWith(root.pathname)) return url.href;
  return new URL(`.${url.pathname}${url.search}`, root).href;
}

/**
 * Send a request and return the response, whatever its status.
 * Throws ReenactError where the server is not reached, and AbortError where the request was aborted.
 * @param {string} address
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function request(address, options = {}) {
  try {
    return await fetch(urlOf(address), options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ReenactError({ code: CODES.unreachable, found: t("error.unreachable") });
  }
}

/**
 * Return the JSON that the server answers. Throws ReenactError where it answers with an error.
 * @param {string} address
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function fetchJson(address, options = {}) {
  const response = await request(address, { cache: "no-store", ...options });
  if (!response.ok) throw await ReenactError.fromResponse(response);
  return response.json();
}

/**
 * Return whether an error only says that its request was aborted.
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof Error && error.name === "AbortError";
}
