import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import { CODES, ReenactError } from "../../realtime/webrtc/page/errors.js";
import { keepConnected, wait } from "../../realtime/webrtc/page/network/retry.js";

/** A connection that connects, or breaks, when told to. */
function fakePeer() {
  const peer = { closed: 0, close: () => { peer.closed += 1; } };
  peer.broken = new Promise((resolve) => { peer.fail = resolve; });
  peer.connected = new Promise((resolve) => { peer.ready = resolve; });
  return peer;
}

const broken = (retryAfterS = 0.001) => new ReenactError({ code: CODES.lost, retryAfterS });

test("a wait leaves no listener at its signal", async () => {
  const { signal } = new AbortController();
  for (let count = 0; count < 20; count += 1) await wait(0, signal);
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("a wait ends early when its signal aborts or its promise settles", { timeout: 2000 }, async () => {
  const ending = new AbortController();
  await wait(60_000, ending.signal, Promise.resolve());
  const waiting = wait(60_000, ending.signal);
  ending.abort();
  await waiting;
  await wait(60_000, ending.signal);
});

test("a connection that breaks is opened again", async () => {
  const ending = new AbortController();
  const said = [];
  const peers = [];
  await keepConnected({
    open: async () => {
      const peer = fakePeer();
      peers.push(peer);
      peer.ready();
      return peer;
    },
    up: (peer) => {
      said.push("up");
      if (peers.length === 3) ending.abort();
      peer.fail(broken());
    },
    down: () => said.push("down"),
    pause: (error) => { said.push(error.code); return new Promise(() => {}); },
    signal: ending.signal,
  });
  assert.deepEqual(said, ["up", "down", CODES.lost, "up", "down", CODES.lost, "up"]);
  assert.deepEqual(peers.map((each) => each.closed), [1, 1, 1]);
  assert.equal(getEventListeners(ending.signal, "abort").length, 0);
});

test("a connection that never comes up is not reported as broken", async () => {
  const said = [];
  await keepConnected({
    open: async () => {
      const peer = fakePeer();
      peer.fail(broken());
      return peer;
    },
    up: () => said.push("up"),
    down: () => said.push("down"),
    pause: () => said.push("pause") < 2 && new Promise(() => {}),
    signal: new AbortController().signal,
  });
  assert.deepEqual(said, ["pause", "pause"]);
});

test("pauses grow, unless the server says when to try again", async () => {
  const waits = [];
  const errors = [...Array(8).fill(null), 3];
  await keepConnected({
    open: async () => { throw new ReenactError({ code: "server-full", retryAfterS: errors[waits.length] }); },
    up: () => {},
    down: () => {},
    pause: (_, waitMs) => waits.push(waitMs) < errors.length && Promise.resolve(),
    signal: new AbortController().signal,
  });
  assert.equal(waits.pop(), 3000);
  const expected = [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000];
  waits.forEach((ms, index) => assert.ok(ms >= 0.8 * expected[index] && ms <= 1.2 * expected[index], `${ms}`));
});

test("an error that is a bug is logged and tried again", async (context) => {
  const logged = context.mock.method(console, "error", () => {});
  const codes = [];
  await keepConnected({
    open: async () => { throw new RangeError("a bug"); },
    up: () => {},
    down: () => {},
    pause: (error) => { codes.push(error.code); return false; },
    signal: new AbortController().signal,
  });
  assert.deepEqual(codes, [CODES.lost]);
  assert.equal(logged.mock.callCount(), 1);
});
