// What a person has chosen, out of a session's state, and the commands that bring it back in another session.

// the field of the state that each of these commands sets; what covers most comes first
const FIELDS = { set_slate: "slate", set_mouth: "mouth", set_frozen: "frozen", set_mirror: "mirror", set_gain: "gain", set_region: "region" };

/** What a command changes in a state; nothing where only the server can tell. */
export function change(command, value) {
  if (value === undefined) return {};
  if (command === "set_portrait") return { portrait: { index: value } };
  return FIELDS[command] ? { [FIELDS[command]]: value } : {};
}

/** Of a state, what was chosen; nothing of null. */
export function chosen(state) {
  return state ? Object.fromEntries(Object.values(FIELDS).map((field) => [field, state[field]])) : {};
}

/** Whether a state is as another one; what either has no value for cannot be chosen there. */
export function holds(settings, state) {
  return Object.values(FIELDS).every((field) => (state[field] ?? settings[field]) === (settings[field] ?? state[field]));
}

/** The commands, with their values, that make a session be as it was. */
export function orders(settings) {
  const all = Object.entries(FIELDS).map(([command, field]) => [command, settings[field]]);
  if (settings.portrait && settings.portrait.index) all.push(["set_portrait", settings.portrait.index]);
  return all.filter(([, value]) => value !== undefined && value !== null);
}
