import assert from "node:assert/strict";
import { test } from "node:test";

import { GROUPS, controlsOf, labelOf, withValue } from "../../realtime/webrtc/page/expression.js";

test("a slider is symmetric unless it is of one side", () => {
  assert.deepEqual(controlsOf("mouthSmile*"), ["mouthSmileLeft", "mouthSmileRight"]);
  assert.deepEqual(controlsOf("mouthSmileLeft"), ["mouthSmileLeft"]);
  assert.deepEqual(withValue({ jawOpen: 0.2 }, "eyeBlink*", 0.5), { jawOpen: 0.2, eyeBlinkLeft: 0.5, eyeBlinkRight: 0.5 });
});

test("what is set back to 0 is sent", () => {
  assert.deepEqual(withValue({ jawOpen: 0.2 }, "jawOpen", 0), { jawOpen: 0 });
});

test("a slider is named in words", () => {
  assert.equal(labelOf("mouthSmileLeft"), "Mouth smile left");
  assert.equal(labelOf("eyeBlink*"), "Eye blink");
});

test("no slider is there twice", () => {
  const all = Object.values(GROUPS).flat().flatMap(controlsOf);
  assert.equal(new Set(all).size, all.length);
});
