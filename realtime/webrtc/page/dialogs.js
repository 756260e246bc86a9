// The dialogs: a link for viewers, and the list of keys.

import { urlOf } from "./network/server.js";
import { el } from "./view.js";

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/**
 * Return the link under which viewers watch a stream.
 * @param {string} shareId
 */
export function viewerLink(shareId) {
  const link = new URL(urlOf("."));
  link.searchParams.set("watch", shareId);
  return link.href;
}

/**
 * Connect the buttons that open and close the dialogs.
 * @param {() => ?string} shareId returns what can be watched now
 */
export function setUpDialogs(shareId) {
  const field = el("share-link", HTMLInputElement);
  el("open-share").addEventListener("click", () => {
    field.value = viewerLink(shareId() || "");
    el("share-feedback").textContent = "";
    el("share-hint").textContent = LOOPBACK.includes(location.hostname)
      ? "Only this computer can open this link. To let others in, start reenact with --sink webrtc:0.0.0.0:8080 and a token."
      : "Viewers are asked for the token of this server, if it has one.";
    el("share", HTMLDialogElement).showModal();
    field.select();
  });
  el("share-copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      // an insecure page has no clipboard: the old way
      field.select();
      document.execCommand("copy");
    }
    el("share-feedback").textContent = "Copied";
  });
  el("open-keys").addEventListener("click", () => el("keys", HTMLDialogElement).showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    // a click beside the dialog closes it
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  }
}
