import assert from "node:assert/strict";
import { test } from "node:test";

import { Microphone } from "../../realtime/webrtc/page/microphone.js";
import { microphoneErrorText } from "../../realtime/webrtc/page/words.js";

/** A track that the test ends as the browser does. */
class Track extends EventTarget {
  stopped = false;

  stop() {
    this.stopped = true;
  }
}

/** @param {() => Promise<Track>} get */
function browserWith(get) {
  const getUserMedia = async (/** @type {object} */ wanted) => {
    assert.deepEqual(wanted, { audio: true, video: false });
    const track = await get();
    return { getAudioTracks: () => [track] };
  };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: { getUserMedia } }, configurable: true });
}

test("a microphone that is unplugged is reported once, and one that was closed is not", async () => {
  const tracks = [new Track(), new Track()];
  browserWith(async () => /** @type {Track} */ (tracks.shift()));
  let lost = 0;
  const microphone = new Microphone({ lost: () => { lost += 1; } });
  const first = await microphone.open();
  first?.dispatchEvent(new Event("ended"));
  assert.equal(lost, 1);
  assert.equal(microphone.track, null);
  const second = /** @type {any} */ (await microphone.open());
  microphone.close();
  second.dispatchEvent(new Event("ended"));
  assert.ok(second.stopped);
  assert.equal(lost, 1);
});

test("a microphone that opens after the user has left is released", async () => {
  const track = new Track();
  /** @type {(track: Track) => void} */
  let allow = () => {};
  browserWith(() => new Promise((resolve) => { allow = resolve; }));
  const microphone = new Microphone({ lost: () => {} });
  const opening = microphone.open();
  microphone.close();
  allow(track);
  assert.equal(await opening, null);
  assert.ok(track.stopped);
  assert.equal(microphone.track, null);
});

test("each reason why there is no sound has its words", () => {
  const texts = ["NotAllowedError", "NotFoundError", "NotReadableError"].map((name) => microphoneErrorText(new DOMException("", name)));
  assert.equal(new Set(texts).size, 3);
});
