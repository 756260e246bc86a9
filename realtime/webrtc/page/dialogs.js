// The dialogs: how they are opened and closed.

import { el } from "./view.js";

/** @typedef {"self" | "agreed" | "fictional"} Right what right the user has to a picture */

/** Connect the button that shows the list of keys, and let a click beside a dialog close it. */
export function setUpDialogs() {
  el("open-keys").addEventListener("click", () => el("keys", HTMLDialogElement).showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  }
}

/**
 * Ask what right the user has to a picture, and return the answer; null if the picture is not to be used.
 * @returns {Promise<?Right>}
 */
export async function askForRight() {
  const dialog = el("consent", HTMLDialogElement);
  if (dialog.open) return null;
  // Escape and a click beside the dialog leave it as it is
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return /** @type {Right} */ (dialog.returnValue) || null;
}
