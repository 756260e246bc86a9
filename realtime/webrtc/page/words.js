// What the page says: names for states, and for each error what happened and what to do about it.

/** @typedef {import("./errors.js").ReenactError} ReenactError */
/** @typedef {import("./modes.js").Mode} Mode */
/** @typedef {{title: string, text: string}} Message */

/** What is said of the face; nothing where all is well. @type {Record<string, string>} */
export const FACE = {
  lost: "No face found: look at the camera, with light from the front",
  "camera lost": "The camera sends no pictures",
};

/**
 * Return what went wrong with the camera. `kind` is "absent" where one may still be plugged in, and "insecure" where
 * another attempt cannot help.
 * @param {unknown} error what getUserMedia threw
 * @returns {Message & {kind: string}}
 */
export function cameraErrorText(error) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    return {
      kind: "insecure",
      title: "The browser blocks the camera on this page",
      text: "Browsers allow the camera only on this computer or over HTTPS. Open the page on the computer that runs reenact, or serve it over HTTPS.",
    };
  }
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return {
        kind: "refused",
        title: "The camera is not allowed",
        text: "Allow it with the camera symbol in the address bar, or in the browser's settings for this page. Then try again.",
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return {
        kind: "absent",
        title: "No camera found",
        text: "Plug one in or switch it on. The page goes live as soon as it is there.",
      };
    case "NotReadableError":
    case "AbortError":
      return {
        kind: "busy",
        title: "The camera is busy",
        text: "Another program or tab seems to use it. Close that one or choose another camera, then try again.",
      };
    default:
      return {
        kind: "other",
        title: "The camera does not open",
        text: `The browser says: ${message}. Choose another camera, or try again.`,
      };
  }
}

/** What is said where the microphone is unplugged. */
export const MICROPHONE_LOST = "The microphone was unplugged: viewers hear nothing, the picture goes on";

/**
 * Return why there is no sound.
 * @param {unknown} error what getUserMedia threw
 */
export function microphoneErrorText(error) {
  const name = error instanceof Error ? error.name : "";
  /** @type {Record<string, string>} */
  const reasons = { NotAllowedError: "is not allowed", SecurityError: "is not allowed", NotFoundError: "is missing" };
  return `The microphone ${reasons[name] ?? "does not open"}: viewers see you and hear nothing`;
}

/** What is said to a guest whose link opens nothing. @type {Record<string, Message>} */
const LINK = {
  "guest-link-wrong": {
    title: "This link is not complete",
    text: "A part of it may be missing. Copy all of it, or ask for it again.",
  },
  "guest-link-old": {
    title: "This link has expired",
    text: "Links are valid for a while only. Ask for a new one.",
  },
  "guest-link-revoked": {
    title: "This link is closed",
    text: "It was taken back, or the portrait is not live any more. Ask for a new one.",
  },
};

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
  const time = new Date(now + seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `Valid until ${time}`;
}

/**
 * Return how many watch.
 * @param {number} count
 */
export function viewersText(count) {
  return `${count} ${count === 1 ? "viewer" : "viewers"}`;
}

/**
 * Return who can open links.
 * @param {{state: string, addresses: string[]}} network
 */
export function localNetworkText({ state, addresses }) {
  if (state === "closed") return "Only this computer can open these links.";
  return `Others in your local network can open these links, at ${addresses.join(" or ")}. A firewall may have to let them in.`;
}

/**
 * Return what to say when the server refuses for good.
 * @param {ReenactError} error
 * @returns {Message}
 */
export function refusalText(error) {
  if (isLinkError(error)) return LINK[error.code];
  if (error.status === 401) {
    return { title: "This server asks for a token", text: "Sign in with the token that reenact was started with." };
  }
  if (error.status === 403) {
    return {
      title: "The server does not accept this address",
      text: "Open the page at the address that reenact printed when it started.",
    };
  }
  return { title: "That did not work", text: errorText(error) };
}

/**
 * Return an error as one sentence or two: what was found, what was expected, and what to do.
 * @param {{found: string, expected?: string, cure?: string}} error
 */
export function errorText({ found, expected = "", cure = "" }) {
  return `${sentence(expected ? `${found}, expected ${expected}` : found)} ${sentence(cure)}`.trim();
}

/**
 * Return a text with a capital letter, and a full stop unless it ends with a mark.
 * @param {string} text
 * @param {string} [stop]
 */
export function sentence(text, stop = ".") {
  if (!text) return "";
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : stop);
}

/**
 * Return who sees a picture that is added in a mode, and for how long.
 * @param {Mode} mode
 */
export function pictureVisibility(mode) {
  return mode.picture === "main"
    ? "It is shown to everyone who watches this portrait, and stays until reenact ends."
    : "Only your own session uses it, and it is deleted when you leave.";
}

/**
 * Return what becomes of a picture that waits for the user's session.
 * @param {string} name
 */
export function keptText(name) {
  return `The picture ${name} becomes your portrait as soon as you are live`;
}

/**
 * Return what becomes of a picture that is dropped on the page.
 * @param {Mode} mode
 */
export function dropText(mode) {
  return mode.picture === "main"
    ? "Drop the picture: everyone who watches sees it as the portrait"
    : "Drop the picture: it becomes your portrait";
}

/**
 * Return what moves the portrait of the main run.
 * @param {string} [source] its name
 */
export function sourceText(source) {
  return source ? `Driven by ${source}` : "Driven by the main run's camera";
}

/**
 * Return how fast a run is and who watches. The page's own view is no viewer: of a session the server leaves it out.
 * @param {import("./state.js").RunState} run
 */
export function ratesText(run) {
  const viewers = Math.max(0, (run.viewers || 0) - (run.session === null ? 1 : 0));
  const watching = viewers ? ` · ${viewersText(viewers)}` : "";
  return `${Math.round(run.fps || 0)} frames/s${watching}`;
}
