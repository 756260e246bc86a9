// The frame age of the last minute, stacked by stage, and the frames dropped: an SVG that takes its colours from the style.

import { t } from "./words/language.js";

const WIDTH = 300;
const HEIGHT = 92;
const FLOOR = 76;
const SPAN_S = 60;
const SVG = "http://www.w3.org/2000/svg";

const SPOKEN_MS = 5000;
const TOPS_MS = [50, 100, 150, 200, 300, 500, 1000, 2000, 5000];

/** @typedef {{stages: Record<string, number>, dropped: number}} Sample ms by stage; frames dropped since the last */

/** The stages on the way of a frame, in order, and their labels. @type {[string, string][]} */
const STAGES = [
  ["camera", t("stage.camera")],
  ["track", t("stage.track")],
  ["generate", t("stage.generate")],
  ["send", t("stage.send")],
  ["back", t("stage.back")],
];

/** The chart and its legend. */
export class Chart {
  /** @type {(Sample & {at: number})[]} */
  #samples = [];
  #spokenAt = 0;

  /**
   * @param {HTMLElement} box
   * @param {HTMLElement} legend
   */
  constructor(box, legend) {
    this.box = box;
    this.legend = legend;
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.areas = new Map(STAGES.map(([name]) => [name, element("path", { class: `area ${name}` })]));
    this.drops = element("path", { class: "drops" });
    const axis = element("path", { class: "axis", d: `M0 ${FLOOR}H${WIDTH}` });
    svg.append(...[...this.areas.values()].reverse(), axis, this.drops);
    this.top = document.createElement("span");
    this.top.className = "scale";
    box.replaceChildren(svg, this.top);
  }

  /** Forget all samples. */
  clear() {
    this.#samples = [];
    this.#draw();
    this.legend.replaceChildren();
    this.box.setAttribute("aria-label", t("age.none"));
  }

  /**
   * Add a sample and draw the chart.
   * @param {Sample} sample
   */
  add(sample) {
    const at = performance.now() / 1000;
    this.#samples.push({ at, ...sample });
    while (this.#samples[0].at < at - SPAN_S) this.#samples.shift();
    this.#draw();
    this.#describe(sample);
  }

  #draw() {
    const samples = this.#samples;
    const now = performance.now() / 1000;
    const x = (/** @type {number} */ at) => (WIDTH * (1 - (now - at) / SPAN_S)).toFixed(1);
    const most = Math.max(...samples.map((each) => sum(each.stages)), 30);
    const top = TOPS_MS.find((step) => step >= most) || most;
    const y = (/** @type {number} */ ms) => (FLOOR - (FLOOR - 4) * Math.min(1, ms / top)).toFixed(1);
    this.top.textContent = samples.length ? `${Math.round(top)} ms` : "";
    const heights = samples.map(() => 0);
    for (const [name, path] of this.areas) {
      samples.forEach((each, index) => { heights[index] += each.stages[name] || 0; });
      const points = samples.map((each, index) => `${x(each.at)} ${y(heights[index])}`);
      const [first, last] = [samples[0], samples[samples.length - 1]];
      path.setAttribute("d", points.length > 1 ? `M${x(first.at)} ${FLOOR}L${points.join("L")}L${x(last.at)} ${FLOOR}Z` : "");
    }
    const bars = samples.filter((each) => each.dropped > 0);
    this.drops.setAttribute("d", bars.map((each) => `M${x(each.at)} ${HEIGHT}v-${Math.min(12, 3 + each.dropped)}`).join(""));
  }

  /** @param {Sample} sample */
  #describe({ stages }) {
    const dropped = this.#samples.reduce((total, each) => total + each.dropped, 0);
    const parts = STAGES.filter(([name]) => name in stages);
    const rows = parts.map(([name, label]) => row(name, label, `${format(stages[name])} ms`));
    rows.push(row("drops", t("age.dropped"), String(dropped)));
    this.legend.replaceChildren(...rows);
    const now = Date.now();
    // a screen reader reads it on demand: no need to change it twice a second
    if (now - this.#spokenAt > SPOKEN_MS) {
      this.#spokenAt = now;
      const spoken = [...parts.map(([name, label]) => `${label} ${format(stages[name])}`), `${t("age.dropped")} ${dropped}`];
      const text = t("age.spoken", { ms: format(sum(stages)), parts: spoken.join(", ") });
      this.box.setAttribute("aria-label", text);
    }
  }
}

/**
 * Return the time of all stages together.
 * @param {Record<string, number>} stages
 */
export function sum(stages) {
  return Object.values(stages).reduce((total, each) => total + each, 0);
}

/** @param {number} ms */
function format(ms) {
  return ms < 9.95 ? ms.toFixed(1) : String(Math.round(ms));
}

/**
 * @param {string} name
 * @param {string} label
 * @param {string} value
 */
function row(name, label, value) {
  const item = document.createElement("li");
  const swatch = document.createElement("span");
  swatch.className = `swatch ${name}`;
  const figure = document.createElement("b");
  figure.textContent = value;
  item.append(swatch, label, figure);
  return item;
}

/**
 * @param {string} name
 * @param {Record<string, string>} attributes
 */
function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
