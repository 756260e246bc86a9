import assert from "node:assert/strict";
import { test } from "node:test";

import { commandOf, KEYS } from "../../realtime/webrtc/page/shortcuts.js";

test("a key stands for its command", () => {
  for (const [key, command] of Object.entries(KEYS)) assert.equal(commandOf({ key }), command);
  for (const key of ["q", "Enter", "constructor"]) assert.equal(commandOf({ key }), null);
});

test("a key with a modifier, or held down, is meant for something else", () => {
  for (const held of ["ctrlKey", "altKey", "metaKey", "repeat"]) assert.equal(commandOf({ key: "s", [held]: true }), null);
});
