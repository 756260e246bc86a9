import assert from "node:assert/strict";
import { test } from "node:test";

import { areApplied, changeOf, commandsFor, settingsOf } from "../../realtime/webrtc/page/settings.js";

const STATE = { muted: true, slate: true, frozen: false, mirror: true, mouth: "painted", refined: true, background: "blur", gain: 1.2, region: "all", driver: "left", expression: { smile: 0.5 }, mix: { mouth: "fixed" }, frames: 9, portrait: { index: 2 } };

test("a command changes its member of the state", () => {
  assert.deepEqual(changeOf("set_gain", 2), { gain: 2 });
  assert.deepEqual(changeOf("set_portrait", 1), { portrait: { index: 1 } });
  assert.deepEqual(changeOf("set_slate"), {});
  assert.deepEqual(changeOf("calibrate"), {});
});

test("settings are what the user can set", () => {
  assert.deepEqual(settingsOf(STATE), { muted: true, slate: true, mouth: "painted", refined: true, background: "blur", frozen: false, mirror: true, gain: 1.2, region: "all", driver: "left", expression: { smile: 0.5 }, mix: { mouth: "fixed" } });
  assert.equal(settingsOf({ ...STATE, background: "image:1" }).background, undefined);
  assert.deepEqual(settingsOf(null), {});
});

test("the commands that bring settings back begin with what hides the user and the portrait", () => {
  assert.deepEqual(commandsFor(STATE), [
    ["set_muted", true], ["set_slate", true], ["set_mouth", "painted"], ["set_refined", true], ["set_background", "blur"], ["set_frozen", false], ["set_mirror", true], ["set_gain", 1.2],
    ["set_region", "all"], ["set_driver", "left"], ["set_expression", { smile: 0.5 }], ["set_mix", { mouth: "fixed" }], ["set_portrait", 2],
  ]);
  assert.deepEqual(commandsFor({ mouth: null, expression: {}, mix: null, portrait: { index: 0 } }), []);
});

test("settings are applied once the state has them; what has no value does not count", () => {
  assert.ok(areApplied(STATE, { ...STATE, frames: 10 }));
  assert.ok(areApplied({ ...STATE, mouth: null }, STATE));
  assert.ok(areApplied(STATE, { ...STATE, mouth: null }));
  assert.ok(!areApplied(STATE, { ...STATE, slate: false }));
  assert.ok(areApplied(STATE, { ...STATE, expression: { smile: 0.5, jawOpen: 0 } }));
  assert.ok(!areApplied(STATE, { ...STATE, expression: { smile: 0.4 } }));
});
