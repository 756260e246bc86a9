import assert from "node:assert/strict";
import { test } from "node:test";

import { ConnectionStats, droppedIn, stagesOf } from "../../realtime/webrtc/page/stats.js";

/** A connection whose reports are given one after the other. */
function connection(...readings) {
  return { getStats: async () => new Map(Object.entries(readings.shift())) };
}

test("a reading counts what came since the last one", async () => {
  const pair = { type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 0.02 };
  const video = { type: "inbound-rtp", kind: "video" };
  const stats = new ConnectionStats(connection(
    { pair, video: { ...video, jitterBufferDelay: 1, jitterBufferEmittedCount: 100, totalDecodeTime: 0.5, framesDecoded: 100, framesDropped: 2 } },
    { pair, video: { ...video, jitterBufferDelay: 1.2, jitterBufferEmittedCount: 110, totalDecodeTime: 0.54, framesDecoded: 110, framesDropped: 5 } },
    { video: { ...video, jitterBufferDelay: 1.2, jitterBufferEmittedCount: 110 } },
  ));
  const first = await stats.read();
  assert.ok(Math.abs(first.ms - 25) < 1e-6);
  assert.equal(first.dropped, 2);
  const second = await stats.read();
  assert.ok(Math.abs(second.ms - 34) < 1e-6);
  assert.equal(second.dropped, 3);
  assert.deepEqual(await stats.read(), { ms: 0, dropped: 0 });
});

test("stages add up to the frame age and the browser's share", () => {
  const run = { stages_ms: { track: { p50: 8 }, generate: { p50: 10 }, send: { p50: 1 } }, age_ms: { p50: 25 } };
  assert.deepEqual(stagesOf(run, { ms: 30, dropped: 0 }, { ms: 20, dropped: 0 }), { camera: 30, track: 8, generate: 10, send: 7, back: 20 });
  assert.deepEqual(stagesOf({}, null, null), {});
});

test("dropped frames are added up wherever they were dropped", () => {
  assert.equal(droppedIn({ dropped: { network: 2, capture: 3 } }), 5);
  assert.equal(droppedIn({}), 0);
});
