// The delay of the last minute by stage, stacked, and the frames dropped, as an SVG that takes its colours from the style.

const WIDTH = 300;
const HEIGHT = 92;
const FLOOR = 76;
const SPAN_S = 60;
const SVG = "http://www.w3.org/2000/svg";

export const STAGES = [
  ["camera", "Encode and send"],
  ["track", "Find the face"],
  ["generate", "Move the portrait"],
  ["send", "Hand over"],
  ["back", "Come back"],
];

export class Chart {
  #samples = [];
  #spoken = 0;

  constructor(box, legend) {
    this.box = box;
    this.legend = legend;
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.rule = element("path", { class: "rule", d: `M0 ${FLOOR}H${WIDTH}` });
    this.areas = new Map(STAGES.map(([name]) => [name, element("path", { class: `area ${name}` })]));
    this.drops = element("path", { class: "drops" });
    this.svg.append(...[...this.areas.values()].reverse(), this.rule, this.drops);
    this.top = document.createElement("span");
    this.top.className = "scale";
    box.replaceChildren(this.svg, this.top);
  }

  /** Begin anew. */
  clear() {
    this.#samples = [];
    this.draw();
    this.legend.replaceChildren();
    this.box.setAttribute("aria-label", "No figures yet");
  }

  /** @param {{stages: Object<string, number>, dropped: number}} sample milliseconds by stage; frames dropped since the last */
  push(sample) {
    const at = performance.now() / 1000;
    this.#samples.push({ at, ...sample });
    while (this.#samples.length && this.#samples[0].at < at - SPAN_S) this.#samples.shift();
    this.draw();
    this.#tell(sample);
  }

  draw() {
    const samples = this.#samples;
    const now = performance.now() / 1000;
    const x = (at) => (WIDTH * (1 - (now - at) / SPAN_S)).toFixed(1);
    const most = Math.max(...samples.map((each) => sum(each.stages)), 30);
    const top = [50, 100, 150, 200, 300, 500, 1000, 2000, 5000].find((step) => step >= most) || most;
    const y = (ms) => (FLOOR - (FLOOR - 4) * Math.min(1, ms / top)).toFixed(1);
    this.top.textContent = samples.length ? `${Math.round(top)} ms` : "";
    const heights = samples.map(() => 0);
    for (const [name, path] of this.areas) {
      samples.forEach((each, index) => { heights[index] += each.stages[name] || 0; });
      const points = samples.map((each, index) => `${x(each.at)} ${y(heights[index])}`);
      path.setAttribute("d", points.length > 1 ? `M${x(samples[0].at)} ${FLOOR}L${points.join("L")}L${x(samples.at(-1).at)} ${FLOOR}Z` : "");
    }
    const bars = samples.filter((each) => each.dropped > 0);
    this.drops.setAttribute("d", bars.map((each) => `M${x(each.at)} ${HEIGHT}v-${Math.min(12, 3 + each.dropped)}`).join(""));
  }

  #tell({ stages }) {
    const total = sum(stages);
    const dropped = this.#samples.reduce((all, each) => all + each.dropped, 0);
    const parts = STAGES.filter(([name]) => name in stages);
    const rows = parts.map(([name, label]) => row(name, label, `${ms(stages[name])} ms`));
    rows.push(row("drops", "Dropped in a minute", String(dropped)));
    this.legend.replaceChildren(...rows);
    const now = Date.now();
    // read on demand, not aloud: still, no need to change it twice a second
    if (now - this.#spoken > 5000) {
      this.#spoken = now;
      const spoken = parts.map(([name, label]) => `${label} ${ms(stages[name])}`).join(", ");
      this.box.setAttribute("aria-label", `Delay ${ms(total)} milliseconds: ${spoken}. ${dropped} frames dropped in the last minute.`);
    }
  }
}

/** @param {Object<string, number>} stages */
export function sum(stages) {
  return Object.values(stages).reduce((all, each) => all + each, 0);
}

function ms(value) {
  return value < 9.95 ? value.toFixed(1) : String(Math.round(value));
}

function row(name, label, value) {
  const item = document.createElement("li");
  const swatch = document.createElement("span");
  swatch.className = `swatch ${name}`;
  const figure = document.createElement("b");
  figure.textContent = value;
  item.append(swatch, label, figure);
  return item;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
