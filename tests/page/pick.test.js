import assert from "node:assert/strict";
import { test } from "node:test";

import { placeOf } from "../../realtime/webrtc/page/pick.js";

/** A video of 640x480 in an element at (100, 50), of the given size. */
function preview(width, height, { mirrored = false, videoWidth = 640 } = {}) {
  return {
    videoWidth,
    videoHeight: 480,
    classList: { contains: (name) => mirrored && name === "mirrored" },
    getBoundingClientRect: () => ({ left: 100, top: 50, width, height }),
  };
}

test("a click is told as a place in the camera's picture", () => {
  assert.equal(placeOf(preview(320, 240), { clientX: 100 + 80, clientY: 50 + 60 }), "0.250,0.250");
  assert.equal(placeOf(preview(320, 240, { mirrored: true }), { clientX: 180, clientY: 110 }), "0.750,0.250");
});

test("what the element cuts off of the picture counts", () => {
  // 320x120 shows the middle half of a picture that is 240 high at that width
  assert.equal(placeOf(preview(320, 120), { clientX: 260, clientY: 50 }), "0.500,0.250");
  assert.equal(placeOf(preview(160, 240), { clientX: 100, clientY: 170 }), "0.250,0.500");
});

test("a click beside the picture, or without one, is none", () => {
  assert.equal(placeOf(preview(320, 240), { clientX: 99, clientY: 60 }), null);
  assert.equal(placeOf(preview(320, 240, { videoWidth: 0 }), { clientX: 180, clientY: 110 }), null);
  assert.equal(placeOf(preview(0, 0), { clientX: 100, clientY: 50 }), null);
});
