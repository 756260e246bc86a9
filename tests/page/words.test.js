import assert from "node:assert/strict";
import { test } from "node:test";

import { ReenactError } from "../../realtime/webrtc/page/errors.js";
import { MODES } from "../../realtime/webrtc/page/modes.js";
import { cameraErrorText, errorText, pictureVisibility, ratesText, refusalText, sentence } from "../../realtime/webrtc/page/words.js";

test("an error is said in sentences", () => {
  assert.equal(errorText({ found: "no face", expected: "one face", cure: "choose another picture" }), "No face, expected one face. Choose another picture.");
  assert.equal(errorText({ found: "is it on?" }), "Is it on?");
  assert.equal(sentence(""), "");
  assert.equal(sentence("frozen", ""), "Frozen");
});

test("only the page of a main run says that everyone sees a picture", () => {
  const shared = Object.keys(MODES).filter((name) => pictureVisibility(MODES[name]).includes("everyone"));
  assert.deepEqual(shared, ["main"]);
});

test("the page's own view is no viewer", () => {
  assert.equal(ratesText({ session: "one", fps: 29.7, viewers: 0 }), "30 frames/s");
  assert.equal(ratesText({ session: "one", fps: 30, viewers: 1 }), "30 frames/s · 1 viewer");
  assert.equal(ratesText({ session: null, fps: 30, viewers: 1 }), "30 frames/s");
  assert.equal(ratesText({ session: null, fps: 30, viewers: 4 }), "30 frames/s · 3 viewers");
});

test("an error of the camera says what to do, by its name", () => {
  globalThis.window = { isSecureContext: true };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: {} }, configurable: true });
  const kinds = { NotAllowedError: "refused", NotFoundError: "absent", NotReadableError: "busy", OtherError: "other" };
  for (const [name, kind] of Object.entries(kinds)) assert.equal(cameraErrorText(new DOMException("", name)).kind, kind);
  window.isSecureContext = false;
  assert.equal(cameraErrorText(new DOMException("", "NotAllowedError")).kind, "insecure");
});

test("a refusal is told apart by its status", () => {
  const titles = [401, 403, 400].map((status) => refusalText(new ReenactError({ code: "x", status })).title);
  assert.equal(new Set(titles).size, 3);
});
