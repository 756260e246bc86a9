import assert from "node:assert/strict";
import { test } from "node:test";

import { iceServersOf, parseLinks } from "../../realtime/webrtc/page/network/link_headers.js";

test("links are read with their parameters", () => {
  const header = '</whep/x>; rel="watch", <turn:host:3478?transport=udp>; rel="ice-server"; username="a, b"; credential=c';
  assert.deepEqual(parseLinks(header), [
    { url: "/whep/x", rel: "watch" },
    { url: "turn:host:3478?transport=udp", rel: "ice-server", username: "a, b", credential: "c" },
  ]);
  assert.deepEqual(parseLinks(null), []);
});

test("only ICE servers become ICE servers, with credentials where there are some", () => {
  const links = parseLinks('<stun:host>; rel="ice-server", </whep/x>; rel=watch, <turn:host>; rel="ice-server"; username="u"; credential="p"');
  assert.deepEqual(iceServersOf(links), [{ urls: "stun:host" }, { urls: "turn:host", username: "u", credential: "p" }]);
});
