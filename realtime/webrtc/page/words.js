// What the page says: names for states, and for each error what happened and what to do about it.

import { CODES } from "./errors.js";
import { hasText, language, t } from "./words/language.js";

/** @typedef {import("./errors.js").ReenactError} ReenactError */
/** @typedef {import("./modes.js").Mode} Mode */
/** @typedef {{title: string, text: string}} Message */

/** Codes whose sentences are the page's own. @type {string[]} */
const OWN_CODES = Object.values(CODES);

/** What is said of the face; nothing where all is well. @type {Record<string, string>} */
export const FACE = { lost: t("face.lost"), "camera lost": t("face.cameraLost") };

/**
 * Return what went wrong with the camera. `kind` is "absent" where one may still be plugged in, and "insecure" where
 * another attempt cannot help.
 * @param {unknown} error what getUserMedia threw
 * @returns {Message & {kind: string}}
 */
export function cameraErrorText(error) {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  const said = (/** @type {string} */ kind, /** @type {string} */ key) => (
    { kind, title: t(`${key}.title`), text: t(`${key}.text`, { message }) }
  );
  if (!window.isSecureContext || !navigator.mediaDevices) return said("insecure", "insecure");
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return said("refused", "cameraRefused");
    case "NotFoundError":
    case "OverconstrainedError":
      return said("absent", "cameraAbsent");
    case "NotReadableError":
    case "AbortError":
      return said("busy", "cameraBusy");
    default:
      return said("other", "cameraOther");
  }
}

/** What is said where the microphone is unplugged. */
export const MICROPHONE_LOST = t("microphone.lost");

/**
 * Return why there is no sound.
 * @param {unknown} error what getUserMedia threw
 */
export function microphoneErrorText(error) {
  const name = error instanceof Error ? error.name : "";
  /** @type {Record<string, string>} */
  const reasons = { NotAllowedError: "refused", SecurityError: "refused", NotFoundError: "missing" };
  return t(`microphone.${reasons[name] ?? "other"}`);
}

/** What is said to a guest whose link opens nothing: the keys of its texts. @type {Record<string, string>} */
const LINK = { "guest-link-wrong": "linkWrong", "guest-link-old": "linkOld", "guest-link-revoked": "linkRevoked" };

/**
 * Return whether an error is about a guest's link.
 * @param {{code: string}} error
 */
export function isLinkError({ code }) {
  return Object.hasOwn(LINK, code);
}

/**
 * Return how long a link is valid.
 * @param {number} seconds
 * @param {number} [now] in ms since 1970
 */
export function expiryText(seconds, now = Date.now()) {
  const time = new Date(now + seconds * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
  return t("share.until", { time });
}

/**
 * Return how many watch.
 * @param {number} count
 */
export function viewersText(count) {
  return t("viewers", { count });
}

/**
 * Return who can open links.
 * @param {{state: string, addresses: string[]}} network
 */
export function localNetworkText({ state, addresses }) {
  return state === "closed" ? t("share.closed") : t("share.opened", { addresses: addresses.join(", ") });
}

/**
 * Return what to say when the server refuses for good.
 * @param {ReenactError} error
 * @returns {Message}
 */
export function refusalText(error) {
  const said = (/** @type {string} */ key) => ({ title: t(`${key}.title`), text: t(`${key}.text`) });
  if (isLinkError(error)) return said(LINK[error.code]);
  if (error.status === 401) return said("token");
  if (error.status === 403) return said("address");
  return { title: t("refused.title"), text: errorText(error) };
}

/**
 * Return an error as one sentence or two: what was found, what was expected, and what to do. What the program says is
 * English; in another language the page says it in its own words, as far as it has some for the code.
 * @param {{found: string, expected?: string, cure?: string, code?: string}} error
 */
export function errorText({ found, expected = "", cure = "", code = "" }) {
  const own = OWN_CODES.includes(code);
  if (language !== "en" && code && !own) return hasText(`server.${code}`) ? t(`server.${code}`) : t("error.other", { found });
  return `${sentence(expected ? t("error.expected", { found, expected }) : found)} ${sentence(cure)}`.trim();
}

/**
 * Return a text with a capital letter, and a full stop unless it ends with a mark.
 * @param {string} text
 * @param {string} [stop]
 */
export function sentence(text, stop = ".") {
  if (!text) return "";
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?。！？]$/.test(text) ? "" : stop);
}

/**
 * Return who sees a picture that is added in a mode, and for how long.
 * @param {Mode} mode
 */
export function pictureVisibility(mode) {
  return t(mode.picture === "main" ? "add.main" : "add.session");
}

/**
 * Return what becomes of a picture that waits for the user's session.
 * @param {string} name
 */
export function keptText(name) {
  return t("add.kept", { name });
}

/**
 * Return what becomes of a picture that is dropped on the page.
 * @param {Mode} mode
 */
export function dropText(mode) {
  return t(mode.picture === "main" ? "drop.main" : "drop");
}

/**
 * Return what moves the portrait of the main run.
 * @param {string} [source] its name
 */
export function sourceText(source) {
  return source ? t("source", { source }) : t("source.main");
}

/**
 * Return how fast a run is and who watches. The page's own view is no viewer: of a session the server leaves it out.
 * @param {import("./state.js").RunState} run
 */
export function ratesText(run) {
  const viewers = Math.max(0, (run.viewers || 0) - (run.session === null ? 1 : 0));
  const watching = viewers ? ` · ${viewersText(viewers)}` : "";
  return `${t("rates", { fps: Math.round(run.fps || 0) })}${watching}`;
}
