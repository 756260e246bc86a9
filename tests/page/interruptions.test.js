import assert from "node:assert/strict";
import { test } from "node:test";

import { CODES, ReenactError } from "../../realtime/webrtc/page/errors.js";
import { kindOf } from "../../realtime/webrtc/page/interruptions.js";

const kind = (fields, watching = false) => kindOf(new ReenactError(fields), watching);

test("errors are told apart by code and status", () => {
  assert.equal(kind({ code: "server-full", status: 503 }), "full");
  assert.equal(kind({ code: "publishers-full", status: 503 }), "full");
  assert.equal(kind({ code: "viewers-full", status: 503 }, true), "full");
  assert.equal(kind({ code: "pipeline-busy", status: 503 }), "busy");
  assert.equal(kind({ code: "stream-not-found", status: 404 }, true), "absent");
  assert.equal(kind({ code: "stream-not-started", status: 503 }, true), "absent");
  assert.equal(kind({ code: "stream-not-found", status: 404 }), "refused");
  assert.equal(kind({ code: "offer-bad", status: 400 }), "refused");
  assert.equal(kind({ code: "token-wrong", status: 401 }), "refused");
  assert.equal(kind({ code: "source-lost" }), "failed");
});

test("what a proxy answers, and a connection that breaks, is tried again", () => {
  for (const code of [CODES.lost, CODES.ended, CODES.timeout, CODES.unreachable]) assert.equal(kind({ code }), "lost");
  assert.equal(kind({ code: CODES.foreign, status: 502 }), "lost");
  assert.equal(kind({ code: CODES.foreign, status: 405 }), "refused");
});
