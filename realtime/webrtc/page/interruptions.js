// What interrupts the page: a full server, a lost connection, a failed session, a camera that does not open.

import { CODES } from "./errors.js";
import { resetSession, state } from "./state.js";
import { showOverlay, showPreview, showStatus } from "./view.js";
import { t } from "./words/language.js";
import { cameraErrorText, errorText, isLinkError, refusalText } from "./words.js";

/** @typedef {import("./errors.js").ReenactError} ReenactError */
/** @typedef {"full" | "busy" | "absent" | "refused" | "failed" | "lost"} Kind */

/** The codes of the server's answer where there is no room for another session, or viewer. */
const FULL = ["server-full", "publishers-full", "viewers-full"];
/** The code of its answer to a viewer of the main run before the first frame. */
const NOT_STARTED = "stream-not-started";

/**
 * Return what an error means for a connection that is to be kept.
 *
 * "full" and "busy" ask to come back later; "absent" is a stream that is not there; "refused" is for good; "failed" is a
 * session that the server has given up; "lost" is a connection that broke.
 * @param {ReenactError} error
 * @param {boolean} watching whether it is a viewer's connection
 * @returns {Kind}
 */
export function kindOf(error, watching) {
  if (FULL.includes(error.code)) return "full";
  if (error.code === NOT_STARTED) return "absent";
  if (isLinkError(error)) return "refused";
  /** @type {string[]} */
  const broken = [CODES.lost, CODES.ended, CODES.timeout];
  if (error.temporary || broken.includes(error.code)) return "lost";
  if (error.status === null) return "failed";
  if (error.status === 503) return "busy";
  return error.status === 404 && watching ? "absent" : "refused";
}

/** Says why the page waits or has stopped, and offers what the user can do. */
export class Interruptions {
  /** @param {import("./modes.js").ModeMachine} modes */
  constructor(modes) {
    this.modes = modes;
    this.leave = this.leave.bind(this);
  }

  /** Leave the session, whatever is on, and see what the server has. */
  leave() {
    resetSession();
    this.modes.enter("loading");
  }

  /**
   * Say why a connection waits for its next attempt. Return a promise that ends the wait, or false to give up.
   * @param {ReenactError} error
   * @param {number} waitMs
   * @param {boolean} watching whether it is a viewer's connection
   * @returns {false | Promise<void>}
   */
  pause(error, waitMs, watching) {
    const kind = kindOf(error, watching);
    if (kind === "refused") {
      this.refuse(error);
      return false;
    }
    /** @type {Promise<void>} */
    const sooner = new Promise((resolve) => { state.retry = resolve; });
    // while the user's own session goes on, or the main run has no pictures yet, the page just waits
    if (kind === "absent" && this.modes.name !== "watch") return sooner;
    /** @type {import("./view.js").Action[]} */
    const actions = [[t("now"), () => state.retry?.()]];
    if (this.modes.name === "live") actions.push([t("cancel"), this.leave]);
    const { status, ...message } = this.#describe(kind, error, watching);
    showStatus("warn", status);
    showOverlay({ ...message, actions, waitMs, urgent: kind !== "absent" });
    return sooner;
  }

  /**
   * @param {Exclude<Kind, "refused">} kind
   * @param {ReenactError} error
   * @param {boolean} watching
   */
  #describe(kind, error, watching) {
    switch (kind) {
      case "full": {
        const title = t(watching ? "full.viewers" : "full.title");
        return { status: t("status.full"), title, text: errorText(error.found ? error : { found: t("full.text") }) };
      }
      case "busy":
        return { status: t("status.busy"), title: t("busy.title"), text: errorText({ code: error.code, found: error.found }) };
      case "absent": {
        return { status: t("status.notLive"), title: t("absent.title"), text: t("absent.text") };
      }
      case "failed":
        return { status: t("status.failed"), title: t("failed.title"), text: errorText(error) };
      default:
        return { status: t("status.lost"), title: t("lost.title"), text: t("lost.text") };
    }
  }

  /**
   * Say that the server refuses for good.
   * @param {ReenactError} error
   */
  refuse(error) {
    if (isLinkError(error)) {
      // nothing that a guest can do here helps
      showStatus("warn", t("status.noLink"));
      showOverlay({ ...refusalText(error), urgent: true });
      return;
    }
    const reload = () => location.reload();
    const needsToken = error.status === 401;
    // a viewer's page stays one
    const again = this.modes.name === "watch" ? reload : this.leave;
    showStatus("warn", t(needsToken ? "status.signIn" : "status.refused"));
    showOverlay({ ...refusalText(error), actions: [needsToken ? [t("status.signIn"), reload] : [t("again"), again]], urgent: true });
  }

  /**
   * Say that the camera does not open.
   * @param {unknown} error what getUserMedia threw
   * @param {() => void} again
   */
  refuseCamera(error, again) {
    const { kind, title, text } = cameraErrorText(error);
    this.modes.enter("trouble");
    showStatus("warn", t("status.noCamera"));
    showPreview(null, title);
    /** @type {import("./view.js").Action[]} */
    const actions = kind === "insecure" ? [] : [[t("again"), again]];
    showOverlay({ title, text, actions: [...actions, [t("back"), this.leave]], urgent: true });
    state.awaitsCamera = kind === "absent";
  }
}
