// A document and a server for tests in Node: as much of them as the page's modules use.

import { beforeEach } from "node:test";

class FakeElement extends EventTarget {
  hidden = false;
  textContent = "";
  disabled = false;
  checked = false;
  value = "";
  srcObject = null;
  dataset = {};
  /** @type {FakeElement[]} */
  children = [];
  #attributes = new Map();
  #classes = new Set();

  classList = {
    toggle: (name, on) => (on ? this.#classes.add(name) : this.#classes.delete(name)),
    contains: (name) => this.#classes.has(name),
  };

  get src() {
    return this.getAttribute("src") || "";
  }

  set src(address) {
    this.setAttribute("src", address);
  }

  getAttribute(name) {
    return this.#attributes.get(name) ?? null;
  }

  setAttribute(name, value) {
    this.#attributes.set(name, String(value));
  }

  removeAttribute(name) {
    this.#attributes.delete(name);
  }

  toggleAttribute(name, on) {
    if (on) this.setAttribute(name, "");
    else this.removeAttribute(name);
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
  }

  querySelector() {
    return this.children[0] ?? null;
  }

  querySelectorAll() {
    return this.children;
  }

  matches() {
    return true;
  }

  contains() {
    return false;
  }

  focus() {}

  click() {
    this.dispatchEvent(new Event("click"));
  }
}

/** What the page has asked of the server: method, path with query, and body. */
export const requests = [];

/** @type {(method: string, path: string) => Response | Promise<Response>} */
let answer;

/**
 * Answer the page's requests from now on.
 * @param {(method: string, path: string) => Response | Promise<Response>} made
 */
export function answerWith(made) {
  answer = made;
}

/** Return an answer with an error, as RFC 9457 has it. */
export function problem(status, fields, headers = {}) {
  const body = JSON.stringify({ title: fields.found, status, expected: "", cure: "", ...fields });
  return new Response(body, { status, headers: { "Content-Type": "application/problem+json", ...headers } });
}

/** Give each test a new page at an address. The runner has a process for each file: nothing is put back. */
export function usePage(address = "http://host/") {
  let elements;
  beforeEach(() => {
    elements = new Map();
    requests.length = 0;
    answer = () => Response.json({ v: 1 });
    const kinds = ["HTMLElement", "HTMLInputElement", "HTMLImageElement", "HTMLVideoElement", "HTMLFieldSetElement"];
    for (const kind of kinds) globalThis[kind] = FakeElement;
    globalThis.CSS = { escape: (text) => text };
    globalThis.location = new URL(address);
    globalThis.document = {
      activeElement: null,
      getElementById: (id) => {
        if (!elements.has(id)) elements.set(id, new FakeElement());
        return elements.get(id);
      },
      createElement: () => new FakeElement(),
    };
    globalThis.fetch = async (url, { method = "GET", body = null, signal = undefined } = {}) => {
      signal?.throwIfAborted();
      const { pathname, search } = new URL(url);
      requests.push({ method, path: pathname + search, body });
      return answer(method, pathname + search);
    };
  });
}

/** Let everything happen that is ready to. */
export function settle() {
  return new Promise((resolve) => { setImmediate(resolve); });
}
