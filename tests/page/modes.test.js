import assert from "node:assert/strict";
import { test } from "node:test";

import { ModeMachine, MODES } from "../../realtime/webrtc/page/modes.js";

test("there are six modes, and each can be reached", () => {
  assert.deepEqual(Object.keys(MODES).sort(), ["idle", "live", "loading", "main", "trouble", "watch"]);
  const reached = new Set(Object.values(MODES).flatMap((mode) => mode.next));
  assert.deepEqual([...reached].sort(), Object.keys(MODES).sort());
});

test("only the page of a main run sends pictures to everyone", () => {
  for (const [name, mode] of Object.entries(MODES)) {
    assert.equal(mode.picture === "main", name === "main", name);
    assert.equal(mode.controls === "main", name === "main", name);
  }
});

test("entering a mode ends what the last one began", () => {
  const entered = [];
  const modes = new ModeMachine("loading", (name) => entered.push(name));
  const first = modes.enter("idle");
  const second = modes.enter("live");
  assert.deepEqual(entered, ["idle", "live"]);
  assert.deepEqual([first.aborted, second.aborted, modes.ended], [true, false, false]);
  assert.deepEqual([modes.name, modes.current], ["live", MODES.live]);
});

test("a mode that may not follow is refused, and changes nothing", () => {
  const modes = new ModeMachine("loading", () => {});
  const signal = modes.enter("watch");
  for (const name of Object.keys(MODES)) assert.throws(() => modes.enter(name), Error);
  assert.equal(modes.name, "watch");
  assert.equal(signal.aborted, false);
});

test("leaving the page ends the mode", () => {
  const modes = new ModeMachine("loading", () => {});
  modes.end();
  assert.ok(modes.ended);
});
