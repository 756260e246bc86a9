// The one mutable state of the page. It is changed here and by who shows it, never kept twice.

/** @typedef {import("./network/connection.js").Peer} Peer */
/** @typedef {import("./stats.js").ConnectionStats} ConnectionStats */

/**
 * What a run is doing, as the server describes it in `GET /api/state` and over the control channel.
 * @typedef {object} RunState
 * @property {?string} [session] its secret; null for the main run
 * @property {string} [source] name of the video that drives the portrait
 * @property {string} [face] "starting", "found", "lost" or "camera lost"
 * @property {number} [fps]
 * @property {number} [frames] how many have been made
 * @property {{index: number, name?: string}} [portrait]
 * @property {number} [portraits] how many are ready
 * @property {boolean} [slate]
 * @property {boolean} [muted] whether viewers do not hear the user
 * @property {boolean} [frozen]
 * @property {boolean} [mirror]
 * @property {boolean} [calibrating]
 * @property {number} [gain]
 * @property {string} [region] "all", "expression" or "pose"
 * @property {string | number} [driver] "auto", "largest", "left", "right" or the number of a face from the left
 * @property {Record<string, number>} [expression] what is added to the driver's expression
 * @property {?Record<string, string>} [mix] what moves each part of the face; null where there is no choice
 * @property {string[]} [presets] expressions that are kept by name
 * @property {?string} [mouth] "driver", "neural" or "painted"; null where the generator has no choice
 * @property {string[]} [mouths] those that can be chosen
 * @property {?boolean} [refined] whether networks repair mouth and eyes; null where there are none
 * @property {string} [background] "keep", "blur", "transparent", a colour, or the name of an image
 * @property {number} [viewers] for the main run, this page is one of them
 * @property {Record<string, {p50: number}>} [stages_ms]
 * @property {{p50: number}} [age_ms]
 * @property {Record<string, number>} [dropped]
 */

/** A picture or the index of a portrait that the user chose before there was a session. */
/** @typedef {{portrait: ?number, file: ?File}} Wish */

/** @type {() => Wish} */
const noWish = () => ({ portrait: null, file: null });

/** What belongs to one mode: it is new when a mode is entered. */
const ofMode = () => ({
  /** The connection that sends the camera's pictures. @type {?Peer} */
  publisher: null,
  /** @type {?ConnectionStats} */
  publisherStats: null,
  /** @type {?ConnectionStats} */
  viewerStats: null,
  /** The run that is shown. @type {?RunState} */
  run: null,
  /** When that came, in ms since the page was opened. */
  runAt: 0,
  /** Frames dropped so far; null before the first reading. @type {?number} */
  dropped: null,
  /** Ends the present wait for a connection. @type {?() => void} */
  retry: null,
});

/** What belongs to the user's session, from going live until it is left, over broken connections. */
const ofSession = () => ({
  wish: noWish(),
  /** The user's own picture that is shown. @type {?File} */
  uploaded: null,
  /** The settings to bring back after a connection broke, until the new session has them. @type {?RunState} */
  settings: null,
  /** Whether to go live as soon as a camera is plugged in. */
  awaitsCamera: false,
});

export const state = { ...ofMode(), ...ofSession() };

/** Forget what belongs to the mode that is left. */
export function resetMode() {
  Object.assign(state, ofMode());
}

/** Forget what belongs to the user's session. */
export function resetSession() {
  Object.assign(state, ofSession());
}

/**
 * Take what was chosen before there was a session: it is returned once.
 * @returns {Wish}
 */
export function takeWish() {
  const { wish } = state;
  state.wish = noWish();
  return wish;
}
