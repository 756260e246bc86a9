import assert from "node:assert/strict";
import { test } from "node:test";

import { CODES, ReenactError } from "../../realtime/webrtc/page/errors.js";
import { problem } from "./fake_page.js";

test("an error of the server keeps its code, its fields and when to try again", async () => {
  const fields = { code: "server-full", found: "2 sessions are open", expected: "room for another", cure: "wait" };
  const error = await ReenactError.fromResponse(problem(503, fields, { "Retry-After": "7" }));
  assert.ok(error instanceof ReenactError);
  const { code, found, expected, cure, status, retryAfterS } = error;
  assert.deepEqual({ code, found, expected, cure }, fields);
  assert.deepEqual([status, retryAfterS], [503, 7]);
  assert.equal(error.temporary, false);
});

test("an answer that does not come from the program is temporary if it says so", async () => {
  for (const [status, temporary] of [[502, true], [503, true], [408, true], [429, true], [403, false], [404, false]]) {
    const error = await ReenactError.fromResponse(new Response("<h1>proxy</h1>", { status }));
    assert.deepEqual([error.code, error.status, error.temporary], [CODES.foreign, status, temporary]);
  }
});

test("a server that is not reached is temporary", () => {
  assert.ok(new ReenactError({ code: CODES.unreachable }).temporary);
});
