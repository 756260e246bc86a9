// The six modes of the page. What differs between them stands in one table.
//
//   loading ──▶ idle ──▶ live        idle: there is no main run       live: this browser's camera drives a session
//      ▲ │       │        │          main: the main run is shown      trouble: the camera does not open
//      │ └────▶ main ──▶ live ──▶ trouble
//      └── from all of them when they are left, or the server is out of reach
//
//   watch: the page of a link for viewers. It is never left.

/** @typedef {"loading" | "idle" | "main" | "live" | "trouble" | "watch"} ModeName */

/**
 * @typedef {object} Mode
 * @property {ModeName[]} next the modes that may follow
 * @property {string} button the key of what the large button says
 * @property {?("main" | "session")} controls the run that the controls act on
 * @property {?("keep" | "main" | "session")} picture what becomes of a picture that the user adds: kept until there is a
 *   session, shown in the main run for everyone, or in the user's own session; null where none is taken
 * @property {?("program" | "session")} polls whose state is asked for
 */

/** @type {Readonly<Record<ModeName, Mode>>} */
export const MODES = Object.freeze({
  loading: { next: ["idle", "main", "live", "watch", "loading"], button: "go", controls: null, picture: "keep", polls: "program" },
  idle: { next: ["main", "live", "loading"], button: "go", controls: null, picture: "keep", polls: "program" },
  main: { next: ["idle", "live", "loading"], button: "go.this", controls: "main", picture: "main", polls: "program" },
  live: { next: ["trouble", "loading"], button: "go.stop", controls: "session", picture: "session", polls: "session" },
  trouble: { next: ["live", "loading"], button: "go", controls: null, picture: "keep", polls: null },
  watch: { next: [], button: "go", controls: null, picture: null, polls: null },
});

/** The mode that the page is in, and the signal that ends what was begun in it. */
export class ModeMachine {
  /** @type {ModeName} */
  #name;
  #ending = new AbortController();

  /**
   * @param {ModeName} first
   * @param {(name: ModeName, mode: Mode) => void} entered is called after each change, before the new mode does anything
   */
  constructor(first, entered) {
    this.#name = first;
    this.entered = entered;
  }

  get name() {
    return this.#name;
  }

  get current() {
    return MODES[this.#name];
  }

  /** Aborts when the mode is left. */
  get signal() {
    return this.#ending.signal;
  }

  /**
   * Enter a mode: end what runs now, and return the signal of the new mode. Throws Error where it may not follow.
   * @param {ModeName} name
   */
  enter(name) {
    if (!this.current.next.includes(name)) throw new Error(`the mode ${name} does not follow ${this.#name}`);
    this.end();
    this.#ending = new AbortController();
    this.#name = name;
    this.entered(name, this.current);
    return this.signal;
  }

  /** End what runs in this mode without another one, as when the page is left. Idempotent. */
  end() {
    this.#ending.abort();
  }

  /** Whether the page is being left. */
  get ended() {
    return this.signal.aborted;
  }
}
