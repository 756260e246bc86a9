// Beside the matter itself: the link for viewers, and keys.

import { announce, el } from "./view.js";

const KEYS = { c: "calibrate", n: "next_portrait", p: "previous_portrait", f: "set_frozen", s: "set_slate", m: "set_mirror", "+": "increase_gain", "-": "decrease_gain" };
const STORED = "reenact.keys";

/** @param {() => ?string} shareId what may be watched now */
export function setUpDialogs(shareId) {
  el("open-share").addEventListener("click", () => {
    const link = new URL("/", location.href);
    link.searchParams.set("watch", shareId());
    el("share-link").value = link.href;
    el("share-said").textContent = "";
    const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    el("share-hint").textContent = here
      ? "This reenact is reached from this computer only. To let others in, start it with --sink webrtc:0.0.0.0:8080 and a token."
      : "Viewers are asked for this server's token, if it has one.";
    el("share").showModal();
    el("share-link").select();
  });
  el("share-copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(el("share-link").value);
    } catch {
      // no clipboard on an insecure page: the old way
      el("share-link").select();
      document.execCommand("copy");
    }
    el("share-said").textContent = "Copied";
  });
  el("open-keys").addEventListener("click", () => el("keys").showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }
}

// a browser that keeps no data for sites raises at the mere name of its storage

function recalled() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

function remember(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // it holds until the page is left
  }
}

/** The terminal's keys on the page, unless switched off or meant for a field. */
export function setUpKeys(act) {
  const toggle = el("keys-on");
  toggle.checked = recalled() !== "off";
  toggle.addEventListener("change", () => {
    remember(toggle.checked ? "on" : "off");
    announce(toggle.checked ? "Keys work" : "Keys are off");
  });
  addEventListener("keydown", (event) => {
    if (!toggle.checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (document.querySelector("dialog[open]") || event.target.closest("input:not([type=range]):not([type=radio]), select, textarea")) return;
    const command = KEYS[event.key];
    if (!command) return;
    event.preventDefault();
    act(command);
  });
}
