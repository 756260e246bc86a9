import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { CODES } from "../../realtime/webrtc/page/errors.js";
import { fetchJson, request, urlOf } from "../../realtime/webrtc/page/network/server.js";
import { answerWith, problem, requests, usePage } from "./fake_page.js";

describe("on a host of its own", () => {
  usePage("http://host/?watch=one");

  test("addresses are what the server names", () => {
    assert.equal(urlOf("api/state"), "http://host/api/state");
    assert.equal(urlOf("/whip/7"), "http://host/whip/7");
  });

  test("an error of the server is thrown with its code", async () => {
    answerWith(() => problem(404, { code: "session-not-found", found: "no session" }));
    await assert.rejects(fetchJson("api/state?session=x"), { code: "session-not-found", status: 404 });
  });

  test("a server that is not reached is an error of the page", async () => {
    answerWith(() => { throw new TypeError("Failed to fetch"); });
    await assert.rejects(request("api/state"), { code: CODES.unreachable, status: null });
  });

  test("an aborted request stays an AbortError", async () => {
    await assert.rejects(request("api/state", { signal: AbortSignal.abort() }), { name: "AbortError" });
  });
});

describe("below a path of a proxy", () => {
  usePage("https://host/live/reenact/?watch=one");

  test("every address stays below that path", async () => {
    assert.equal(urlOf("api/state"), "https://host/live/reenact/api/state");
    assert.equal(urlOf("/api/portraits/0.jpg?v=1"), "https://host/live/reenact/api/portraits/0.jpg?v=1");
    assert.equal(urlOf("/whip/7", "https://host/live/reenact/whip"), "https://host/live/reenact/whip/7");
    await fetchJson("api/state");
    assert.equal(requests[0].path, "/live/reenact/api/state");
  });

  test("an address that the proxy has moved is left as it is", () => {
    assert.equal(urlOf("/live/reenact/whip/7"), "https://host/live/reenact/whip/7");
    assert.equal(urlOf("https://elsewhere/whip/7"), "https://elsewhere/whip/7");
  });

  test("a relative address is relative to the one that named it", () => {
    assert.equal(urlOf("peer/7", "https://host/live/reenact/whep/one"), "https://host/live/reenact/whep/peer/7");
  });
});
