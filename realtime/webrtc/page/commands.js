// Commands that the user gives with buttons, sliders, keys and portraits.

import { ReenactError } from "./errors.js";
import { isAbort } from "./network/server.js";
import { changeOf } from "./settings.js";
import { placeOf } from "./pick.js";
import { state } from "./state.js";
import { uploadBackground } from "./uploads.js";
import { controlButtons, el, holdControl, showFeedback, showGain, showStill } from "./view.js";
import { language, t } from "./words/language.js";
import { errorText } from "./words.js";

/** @typedef {import("./network/control.js").Value} Value */
/** @typedef {import("./gallery.js").Portrait} Portrait */

const SETTLE_MS = 80;

/** Sends the user's commands to the run that the page controls. */
export class Commands {
  /**
   * @param {object} parts
   * @param {import("./modes.js").ModeMachine} parts.modes
   * @param {import("./network/control.js").Control} parts.control
   * @param {(error: ReenactError) => void} parts.refuse is called where the user has to sign in
   */
  constructor({ modes, control, refuse }) {
    this.modes = modes;
    this.control = control;
    this.refuse = refuse;
  }

  /** Whether there is a run to control. Without a session of the user's own, that is never the main run. */
  get available() {
    const { controls } = this.modes.current;
    return controls === "main" || (controls === "session" && this.control.session !== null);
  }

  /**
   * Send a command and show what became of it.
   * @param {string} command
   * @param {Value} [value]
   */
  async send(command, value) {
    if (!this.available) return;
    holdControl(command);
    // should the connection break before the next state, this is brought back as well
    for (const known of [state.run, state.settings]) {
      if (known) Object.assign(known, changeOf(command, value));
    }
    try {
      const said = await this.control.send(command, value);
      // what the program says of a command is English
      showFeedback(language === "en" ? said : t("done"));
    } catch (error) {
      if (!(error instanceof ReenactError)) throw error;
      if (error.status === 401) this.refuse(error);
      showFeedback(errorText(error), true);
    }
  }

  /**
   * Show a portrait; without a session, remember it for the one that comes.
   * @param {Portrait} portrait
   * @param {import("./gallery.js").Gallery} gallery
   */
  choose(portrait, gallery) {
    gallery.mark(portrait.index);
    if (this.available) {
      state.uploaded = null;
      state.wish.file = null;
      this.send("set_portrait", portrait.index);
      return;
    }
    state.wish = { portrait: portrait.index, file: null };
    showStill(gallery.picture);
  }

  /**
   * Do what a key stands for: as if its button were pressed, if it has one.
   * @param {string} command
   */
  press(command) {
    const button = controlButtons().find((each) => each.dataset.command === command);
    if (button) button.click();
    else this.send(command);
  }

  /** Connect the buttons and sliders. */
  connectControls() {
    for (const button of controlButtons()) {
      button.addEventListener("click", () => {
        const { command = "", field } = button.dataset;
        if (!field) {
          this.send(command);
          return;
        }
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        this.send(command, on);
      });
    }
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const slider = el("gain", HTMLInputElement);
    slider.addEventListener("input", () => {
      const gain = Number(slider.value);
      showGain(gain);
      holdControl("set_gain");
      clearTimeout(timer);
      timer = setTimeout(() => this.send("set_gain", gain), SETTLE_MS);
    });
    this.#connectBackground();
    const preview = el("preview", HTMLVideoElement);
    preview.addEventListener("click", (event) => {
      const place = placeOf(preview, event);
      if (place) this.send("set_driver", place);
    });
    for (const name of ["region", "mouth", "driver"]) {
      el(name).addEventListener("change", ({ target }) => {
        if (target instanceof HTMLInputElement) this.send(`set_${name}`, target.value);
      });
    }
    el("refined").addEventListener("change", ({ target }) => {
      if (target instanceof HTMLInputElement) this.send("set_refined", target.value === "true");
    });
  }

  /** Connect the choice of what is behind the portrait. */
  #connectBackground() {
    const colour = el("background-colour", HTMLInputElement);
    const image = el("background-image", HTMLInputElement);
    el("background").addEventListener("change", ({ target }) => {
      if (!(target instanceof HTMLInputElement)) return;
      holdControl("set_background");
      el("background-colour-field").hidden = target.value !== "colour";
      if (target.value === "image") image.click();
      else this.send("set_background", target.value === "colour" ? colour.value : target.value);
    });
    colour.addEventListener("change", () => this.send("set_background", colour.value));
    image.addEventListener("change", () => {
      const file = image.files?.[0];
      if (file) this.#sendBackground(file);
      image.value = "";
    });
  }

  /**
   * Send an image to be shown behind the portrait.
   * @param {File} file
   */
  async #sendBackground(file) {
    if (!this.available) return;
    showFeedback(t("background.sending"));
    try {
      const { name } = await uploadBackground(file, this.control.query, this.modes.signal);
      if (state.run) state.run.background = name;
      showFeedback(t("background.set", { name: file.name }));
    } catch (error) {
      if (isAbort(error)) return;
      if (!(error instanceof ReenactError)) throw error;
      showFeedback(errorText(error), true);
    }
  }
}
