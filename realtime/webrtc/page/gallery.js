// The portraits to choose from.

import { ReenactError } from "./errors.js";
import { fetchJson, urlOf } from "./network/server.js";

const REFRESH_MS = 1000;

/** @typedef {{index: number, name: string, picture: string}} Portrait `picture` is the address of a small picture */

/** The list of portraits of a session, or of the main run. */
export class Gallery {
  #query = "";
  #loaded = false;
  #loadedAt = -Infinity;
  /** @type {?number} */
  #current = null;

  /**
   * @param {HTMLElement} list
   * @param {{choose: (portrait: Portrait) => void}} handlers `choose` is called when the user picks a portrait
   */
  constructor(list, { choose }) {
    this.list = list;
    this.choose = choose;
    /** @type {Portrait[]} */
    this.portraits = [];
  }

  /**
   * Return whether the list shows at least `count` portraits of a session.
   * @param {string} query the query string that names the session
   * @param {number} count
   */
  holds(query, count) {
    return this.#loaded && query === this.#query && this.portraits.length >= count;
  }

  /**
   * Load the list again until it holds `count` portraits: they become ready one after the other. Throws ReenactError.
   * @param {string} query
   * @param {number} count
   */
  async refresh(query, count) {
    if (this.holds(query, count) || performance.now() - this.#loadedAt < REFRESH_MS) return;
    this.#loadedAt = performance.now();
    await this.load(query);
  }

  /**
   * Load the list of a session; leave it as it is where there is none yet. Throws ReenactError where the user has to
   * sign in, or the server is not reached.
   * @param {string} query
   */
  async load(query) {
    let answer;
    try {
      answer = await fetchJson(`api/portraits${query}`);
    } catch (error) {
      if (error instanceof ReenactError && error.status !== null && error.status !== 401) return;
      throw error;
    }
    this.#query = query;
    this.#loaded = true;
    const shown = JSON.stringify(this.portraits);
    this.portraits = answer.portraits || [];
    // buttons that stay keep the focus
    if (JSON.stringify(this.portraits) !== shown) this.#show();
  }

  /**
   * Mark the portrait that is shown.
   * @param {?number} index
   */
  mark(index) {
    this.#current = index;
    for (const button of this.list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
    }
  }

  /** The address of the picture of the marked portrait, or of the first; null where there is none. */
  get picture() {
    const portrait = this.portraits.find((each) => each.index === this.#current) || this.portraits[0];
    return portrait ? urlOf(portrait.picture) : null;
  }

  #show() {
    this.list.replaceChildren(...this.portraits.map((portrait) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.index = String(portrait.index);
      button.title = portrait.name;
      const picture = document.createElement("img");
      picture.src = urlOf(portrait.picture);
      picture.alt = "";
      const name = document.createElement("span");
      name.textContent = portrait.name;
      button.append(picture, name);
      button.addEventListener("click", () => this.choose(portrait));
      item.append(button);
      return item;
    }));
    this.mark(this.#current);
  }
}
