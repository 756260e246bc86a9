// What the user has set, out of a run's state, and the commands that bring it back in another session.

/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {import("./network/control.js").Value} Value */

/**
 * The member of the state that each of these commands sets. What hides most comes first.
 * @type {Record<string, "muted" | "slate" | "mouth" | "refined" | "background" | "frozen" | "mirror" | "gain" | "region" | "driver" | "expression" | "mix">}
 */
const FIELDS = {
  set_muted: "muted",
  set_slate: "slate",
  set_mouth: "mouth",
  set_refined: "refined",
  set_background: "background",
  set_frozen: "frozen",
  set_mirror: "mirror",
  set_gain: "gain",
  set_region: "region",
  set_driver: "driver",
  set_expression: "expression",
  set_mix: "mix",
};

/**
 * Return the members of a state that a command changes; none where only the server knows.
 * @param {string} command
 * @param {Value} [value]
 * @returns {Partial<RunState>}
 */
export function changeOf(command, value) {
  if (value === undefined) return {};
  if (command === "set_portrait") return { portrait: { index: Number(value) } };
  if (command === "set_mix") return {};
  return FIELDS[command] ? { [FIELDS[command]]: value } : {};
}

/**
 * Return the members of a state that the user can set. An image behind the portrait is known to its session only.
 * @param {?RunState} state
 * @returns {Partial<RunState>}
 */
export function settingsOf(state) {
  if (!state) return {};
  const settings = Object.fromEntries(Object.values(FIELDS).map((field) => [field, state[field]]));
  return state.background?.startsWith("image:") ? { ...settings, background: undefined } : settings;
}

/**
 * Return whether a state has these settings. What either has no value for does not count.
 * @param {RunState} settings
 * @param {RunState} state
 */
export function areApplied(settings, state) {
  return Object.values(FIELDS).every((field) => textOf(state[field] ?? settings[field]) === textOf(settings[field] ?? state[field]));
}

/**
 * Return a setting as text that is the same for the same setting; a control at 0 is not set.
 * @param {unknown} setting
 */
function textOf(setting) {
  if (typeof setting !== "object" || setting === null) return String(setting);
  return JSON.stringify(Object.entries(setting).filter(([, value]) => value !== 0).sort());
}

/**
 * Return the commands, with their values, that give a new session these settings.
 * @param {RunState} settings
 * @returns {[string, Value][]}
 */
export function commandsFor(settings) {
  /** @type {[string, ?Value | undefined][]} */
  const commands = Object.entries(FIELDS).map(([command, field]) => [command, settings[field]]);
  if (settings.portrait?.index) commands.push(["set_portrait", settings.portrait.index]);
  return /** @type {[string, Value][]} */ (commands.filter(([, value]) => value !== undefined && value !== null && textOf(value) !== "[]"));
}
