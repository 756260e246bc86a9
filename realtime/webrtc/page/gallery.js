// The portraits: pictures to choose from, and adding one's own by click, keyboard or drop.

import { Refusal } from "./connection.js";
import { ask } from "./control.js";
import { problemText } from "./words.js";

const MAX_BYTES = 16 * 1024 * 1024;
const REFRESH_MS = 1000;

export class Gallery {
  /** ``choose(portrait)`` is called when a person picks one. */
  constructor(list, { choose }) {
    this.list = list;
    this.choose = choose;
    this.portraits = [];
    this.current = null;
    this.query = null;
    this.asked = 0;
  }

  /** Whether as many portraits of a session are known as it has. */
  holds(query, count) {
    return query === this.query && this.portraits.length >= count;
  }

  /** Load what a session has, until it is as many as that; at most once a second. */
  async refresh(query, count) {
    if (this.holds(query, count)) return;
    if (performance.now() - this.asked < REFRESH_MS) return;
    this.asked = performance.now();
    await this.load(query);
  }

  /** Fetch the list of a session (its query part), or of the main run. False where there is none yet. */
  async load(query) {
    let listed;
    try {
      listed = await ask(`/api/portraits${query}`);
    } catch (error) {
      if (error instanceof Refusal && error.status !== 401) return false;
      throw error;
    }
    this.query = query;
    this.portraits = listed.portraits || [];
    this.#show();
    return true;
  }

  mark(index) {
    this.current = index;
    for (const button of this.list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
    }
  }

  get picture() {
    const portrait = this.portraits.find((each) => each.index === this.current) || this.portraits[0];
    return portrait ? portrait.picture : null;
  }

  #show() {
    this.list.replaceChildren(...this.portraits.map((portrait) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.index = portrait.index;
      button.title = portrait.name;
      const picture = document.createElement("img");
      picture.src = portrait.picture;
      picture.alt = "";
      const name = document.createElement("span");
      name.textContent = portrait.name;
      button.append(picture, name);
      button.addEventListener("click", () => this.choose(portrait));
      item.append(button);
      return item;
    }));
    this.mark(this.current);
  }
}

/** Send a picture to a session. Throws Error with words for the person. */
export async function upload(file, query, signal) {
  if (file.size > MAX_BYTES) throw new Error(`The picture has ${(file.size / 1048576).toFixed(0)} MB; 16 MB at most.`);
  if (file.type && !file.type.startsWith("image/")) throw new Error(`${file.name} is not a picture.`);
  try {
    const named = `name=${encodeURIComponent(file.name.replace(/\.[^.]*$/, "").slice(0, 60))}`;
    return await ask(`/api/portraits${query ? `${query}&` : "?"}${named}`, {
      method: "POST",
      headers: { "Content-Type": file.type || "application/octet-stream" },
      body: file,
      signal,
    });
  } catch (error) {
    throw new Error(error instanceof Refusal ? problemText(error.problem) || error.message : "The picture did not arrive: reenact is not reached.");
  }
}

/** Let files be dropped anywhere on the page; ``veil`` is shown while one hovers. */
export function acceptDrops(veil, onFile) {
  let depth = 0;
  const carries = (event) => [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragover", (event) => {
    if (carries(event)) event.preventDefault();
  });
  addEventListener("dragleave", (event) => {
    if (!carries(event)) return;
    depth -= 1;
    veil.hidden = depth <= 0;
  });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  });
}
