// The sliders of the expression: what is added to what the driver does, or set in its place.

import { el, holdControl } from "./view.js";
import { hasText, t } from "./words/language.js";

/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {import("./network/control.js").Value} Value */

/** What people want first: the control and its smallest value. @type {[string, number][]} */
const SIMPLE = [
  ["smile", -1],
  ["eyesOpen", -1],
  ["lookAtCamera", 0],
  ["brows", -1],
  ["headRoll", -1],
];

/** The controls of each part of the face; those with a * are there once for each side. @type {Record<string, string[]>} */
export const GROUPS = {
  mouth: [
    "jawOpen", "jawLeft", "jawRight", "jawForward", "mouthSmile*", "mouthFrown*", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", "mouthUpperUp*", "mouthLowerDown*", "mouthStretch*", "mouthDimple*", "mouthPress*", "mouthRollUpper",
    "mouthRollLower", "mouthShrugUpper", "mouthShrugLower", "mouthClose",
  ],
  eyes: ["eyeBlink*", "eyeWide*", "eyeSquint*", "eyeLookUp*", "eyeLookDown*", "eyeLookIn*", "eyeLookOut*"],
  brows: ["browInnerUp", "browDown*", "browOuterUp*"],
  cheeks: ["cheekPuff", "cheekSquint*", "noseSneer*"],
  head: ["headPitch", "headYaw"],
};
const MIXES = ["added", "driver", "fixed"];
const SETTLE_MS = 60;

/**
 * Return the controls that a name of a slider stands for.
 * @param {string} name
 */
export function controlsOf(name) {
  const base = name.replace("*", "");
  return name.endsWith("*") ? [`${base}Left`, `${base}Right`] : [base];
}

/**
 * Return a control's name in words, such as "Mouth smile left".
 * @param {string} name
 */
export function labelOf(name) {
  const key = `control.${name.replace("*", "")}`;
  if (hasText(key)) return t(key);
  const [, base, side] = /^(.*)(Left|Right)$/.exec(key) ?? [];
  return t(`side.${side.toLowerCase()}`, { name: t(base) });
}

/**
 * Return all that is set once the controls of a slider have a value; what becomes 0 stays in, so that it is sent.
 * @param {Record<string, number>} values
 * @param {string} name
 * @param {number} value
 */
export function withValue(values, name, value) {
  return { ...values, ...Object.fromEntries(controlsOf(name).map((control) => [control, value])) };
}

/** The panel with the sliders. */
export class ExpressionPanel {
  /** @type {Record<string, number>} */
  #values = {};
  /** @type {Map<string, HTMLInputElement>} */
  #sliders = new Map();
  /** @type {Map<string, HTMLSelectElement>} */
  #mixes = new Map();
  #presets = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {(command: string, value?: Value) => unknown} send */
  constructor(send) {
    this.send = send;
  }

  /** Build the sliders, and connect them. */
  connect() {
    const sides = el("expression-sides", HTMLInputElement);
    sides.addEventListener("change", () => this.#build(sides.checked));
    this.#build(false);
    el("expression-reset").addEventListener("click", () => this.send("reset_expression"));
    const preset = el("expression-preset", HTMLSelectElement);
    preset.addEventListener("change", () => {
      if (preset.value) this.send("use_preset", preset.value);
      preset.value = "";
    });
    const name = el("expression-name", HTMLInputElement);
    el("expression-save").addEventListener("click", () => {
      if (!name.value.trim()) return;
      this.send("save_preset", name.value.trim());
      name.value = "";
    });
  }

  /**
   * Bring the sliders in line with a state.
   * @param {RunState} run
   * @param {boolean} free whether the user is not moving one
   */
  show(run, free) {
    if (run.expression && free) {
      this.#values = { ...run.expression };
      this.#move();
    }
    for (const [group, select] of this.#mixes) {
      if (free && run.mix?.[group]) select.value = run.mix[group];
    }
    const presets = run.presets || [];
    if (presets.join("\n") === this.#presets) return;
    this.#presets = presets.join("\n");
    const options = presets.map((each) => new Option(each, each));
    el("expression-preset", HTMLSelectElement).replaceChildren(new Option(t("choose"), ""), ...options);
  }

  #move() {
    for (const [name, slider] of this.#sliders) {
      const all = controlsOf(name).map((control) => this.#values[control] || 0);
      slider.value = String(all.reduce((total, each) => total + each, 0) / all.length);
    }
  }

  /** @param {boolean} sides whether each side has a slider of its own */
  #build(sides) {
    this.#sliders.clear();
    this.#mixes.clear();
    const simple = SIMPLE.map(([name, least]) => this.#slider(name, labelOf(name), least));
    const groups = Object.entries(GROUPS).map(([group, names]) => {
      const shown = sides ? names.flatMap(controlsOf) : names;
      const box = document.createElement("fieldset");
      const legend = document.createElement("legend");
      legend.textContent = labelOf(group);
      box.append(legend, this.#mix(group), ...shown.map((name) => this.#slider(name, labelOf(name), group === "head" ? -1 : 0)));
      return box;
    });
    el("expression-sliders").replaceChildren(...simple, ...groups);
    this.#move();
  }

  /** @param {string} group */
  #mix(group) {
    const select = document.createElement("select");
    select.setAttribute("aria-label", t("mix", { group: labelOf(group) }));
    select.replaceChildren(...MIXES.map((value) => new Option(t(`mix.${value}`), value)));
    select.addEventListener("change", () => {
      holdControl("set_expression");
      this.send("set_mix", { [group]: select.value });
    });
    this.#mixes.set(group, select);
    return select;
  }

  /**
   * @param {string} name
   * @param {string} label
   * @param {number} least
   */
  #slider(name, label, least) {
    const field = document.createElement("label");
    field.className = "field";
    const text = document.createElement("span");
    text.textContent = label;
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: String(least), max: "1", step: "0.05", value: "0" });
    slider.addEventListener("input", () => {
      this.#values = withValue(this.#values, name, Number(slider.value));
      holdControl("set_expression");
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.send("set_expression", this.#values), SETTLE_MS);
    });
    // a double click sets it back
    slider.addEventListener("dblclick", () => {
      slider.value = "0";
      slider.dispatchEvent(new Event("input"));
    });
    this.#sliders.set(name, slider);
    field.append(text, slider);
    return field;
  }
}
