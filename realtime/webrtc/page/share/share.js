// The dialog that makes links for guests, shows them as a code to scan, and revokes them.

import { ReenactError } from "../errors.js";
import { fetchJson, request, urlOf } from "../network/server.js";
import { el } from "../view.js";
import { t } from "../words/language.js";
import { errorText, expiryText, localNetworkText, viewersText } from "../words.js";
import { encode, toPath } from "./qr.js";

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];
const REFRESH_MS = 3000;

/**
 * A link as the server lists it.
 * @typedef {{id: string, path: string, expires_in_s: number, viewers: number}} Link
 */

/**
 * Whether guests come in from the local network, and the addresses for them. "served" is a program that other machines
 * reach anyway.
 * @typedef {{state: "closed" | "open" | "served", addresses: string[]}} LocalNetwork
 */

/** Whether this page is seen on the computer where the program runs. */
const isLoopback = () => LOOPBACK.includes(location.hostname);

/**
 * Return the address that a guest opens: under the name by which others reach the program, as far as that is known.
 * @param {string} path
 * @param {LocalNetwork} network
 */
export function guestAddress(path, { addresses }) {
  const own = urlOf(path);
  return isLoopback() && addresses.length ? new URL(new URL(own).pathname, addresses[0]).href : own;
}

/** Shows the links of one stream. The newest one is offered to be copied and scanned. */
export class ShareDialog {
  /** @type {LocalNetwork} */
  #network = { state: "closed", addresses: [] };
  #asking = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** @param {() => string} query returns the query string that names the session that is shared */
  constructor(query) {
    this.query = query;
  }

  get #dialog() {
    return el("share", HTMLDialogElement);
  }

  /** Connect the buttons. */
  connect() {
    el("open-share").addEventListener("click", () => this.open());
    el("share-copy").addEventListener("click", () => this.#copy());
    el("share-new").addEventListener("click", () => this.#try(() => this.#create()));
    el("share-ask").addEventListener("click", () => this.#ask(true));
    el("share-no").addEventListener("click", () => this.#ask(false));
    el("share-yes").addEventListener("click", () => this.#try(() => this.#letIn(true)));
    el("share-shut").addEventListener("click", () => this.#try(() => this.#letIn(false)));
    this.#dialog.addEventListener("close", () => clearInterval(this.#timer));
  }

  /** Show the dialog, with a link. */
  open() {
    el("share-link", HTMLInputElement).value = "";
    el("share-feedback").textContent = "";
    this.#ask(false);
    this.#dialog.showModal();
    this.#try(async () => {
      if (!(await this.refresh()).length) await this.#create();
      el("share-link", HTMLInputElement).select();
    });
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#try(() => this.refresh()), REFRESH_MS);
  }

  /**
   * Show the links that there are now. Throws ReenactError.
   * @returns {Promise<Link[]>}
   */
  async refresh() {
    /** @type {{links: Link[], local_network: LocalNetwork}} */
    const { links, local_network: network } = await fetchJson(`api/links${this.query()}`);
    this.#network = network;
    this.#showNewest(links.at(-1));
    el("share-links").replaceChildren(...[...links].reverse().map((link) => this.#item(link)));
    el("share-local").hidden = !isLoopback() || network.state === "served";
    el("share-local-text").textContent = localNetworkText(network);
    el("share-ask").hidden = network.state !== "closed" || this.#asking;
    el("share-shut").hidden = network.state !== "open";
    return links;
  }

  /** @param {Link | undefined} link */
  #showNewest(link) {
    const field = el("share-link", HTMLInputElement);
    const address = link ? guestAddress(link.path, this.#network) : "";
    el("share-expiry").textContent = link ? expiryText(link.expires_in_s) : "";
    if (field.value !== address) field.value = address;
    const matrix = address ? encode(address) : null;
    const code = el("share-code");
    code.toggleAttribute("hidden", matrix === null);
    if (!matrix) return;
    const { path, width } = toPath(matrix);
    code.setAttribute("viewBox", `0 0 ${width} ${width}`);
    code.querySelector("path")?.setAttribute("d", path);
  }

  /** @param {Link} link */
  #item(link) {
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = `${expiryText(link.expires_in_s)} · ${viewersText(link.viewers)}`;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = t("share.revoke");
    button.addEventListener("click", () => this.#try(() => this.#revoke(link.id)));
    item.append(text, button);
    return item;
  }

  async #create() {
    const seconds = Number(el("share-lifetime", HTMLSelectElement).value);
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ expires_in_s: seconds });
    await fetchJson(`api/links${this.query()}`, { method: "POST", headers, body });
    await this.refresh();
  }

  /** @param {string} id */
  async #revoke(id) {
    const response = await request(`api/links/${encodeURIComponent(id)}${this.query()}`, { method: "DELETE" });
    if (!response.ok) throw await ReenactError.fromResponse(response);
    await this.refresh();
    el("share-feedback").textContent = t("share.revoked");
    el("share-new").focus();
  }

  /** @param {boolean} asked whether to ask if the local network is to be let in */
  #ask(asked) {
    this.#asking = asked;
    el("share-question").hidden = !asked;
    el("share-ask").hidden = asked || this.#network.state !== "closed";
    if (asked) el("share-no").focus();
  }

  /** @param {boolean} open */
  async #letIn(open) {
    const headers = { "Content-Type": "application/json" };
    await fetchJson("api/local-network", { method: "POST", headers, body: JSON.stringify({ open }) });
    this.#ask(false);
    await this.refresh();
  }

  async #copy() {
    const field = el("share-link", HTMLInputElement);
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      // an insecure page has no clipboard: the old way
      field.select();
      document.execCommand("copy");
    }
    el("share-feedback").textContent = t("share.copied");
  }

  /**
   * Do something, and say what the server has against it.
   * @param {() => Promise<unknown>} act
   */
  async #try(act) {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof ReenactError)) throw error;
      el("share-feedback").textContent = errorText(error);
    }
  }
}
