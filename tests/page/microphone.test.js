import assert from "node:assert/strict";
import { test } from "node:test";

import { Microphone, showHeard, showMicrophone } from "../../realtime/webrtc/page/microphone.js";
import { microphoneErrorText } from "../../realtime/webrtc/page/words.js";
import { usePage } from "./fake_page.js";

usePage();

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

test("a muted user is not told to be heard, and one without a microphone is told why", async () => {
  browserWith(async () => new Track());
  const microphone = new Microphone({ lost: () => {} });
  const note = document.getElementById("microphone-note");
  const said = (/** @type {boolean} */ muted) => {
    showHeard(microphone, muted);
    return note?.textContent;
  };
  await microphone.open();
  const heard = said(false);
  assert.notEqual(said(true), heard);
  assert.equal(said(false), heard);
  microphone.close();
  showMicrophone("the reason", true);
  assert.equal(said(false), "the reason");
});

test("each reason why there is no sound has its words", () => {
  const texts = ["NotAllowedError", "NotFoundError", "NotReadableError"].map((name) => microphoneErrorText(new DOMException("", name)));
  assert.equal(new Set(texts).size, 3);
});
