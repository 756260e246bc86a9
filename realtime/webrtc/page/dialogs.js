// The dialogs: how they are opened and closed.

import { el } from "./view.js";

/** Connect the button that shows the list of keys, and let a click beside a dialog close it. */
export function setUpDialogs() {
  el("open-keys").addEventListener("click", () => el("keys", HTMLDialogElement).showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  }
}
