import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Control } from "../../realtime/webrtc/page/network/control.js";
import { CODES } from "../../realtime/webrtc/page/errors.js";
import { answerWith, problem, requests, usePage } from "./fake_page.js";

usePage();

/** A data channel that answers each message at once. */
class FakeChannel extends EventTarget {
  readyState = "open";
  sent = [];

  constructor(answer) {
    super();
    this.answer = answer;
  }

  send(text) {
    const message = JSON.parse(text);
    this.sent.push(message);
    const reply = this.answer(message);
    if (reply) queueMicrotask(() => this.receive(reply));
  }

  receive(message) {
    this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify({ v: 1, ...message }) }));
  }
}

let heard;
let control;
beforeEach(() => {
  heard = [];
  control = new Control({
    state: (state) => heard.push(["state", state.frames]),
    notice: (text) => heard.push(["notice", text]),
    refused: (error) => heard.push(["refused", error.code]),
    failed: (error) => heard.push(["failed", error.code]),
  });
});

test("a command goes over the channel and its reply comes back", async () => {
  const channel = new FakeChannel(({ id }) => ({ id, ok: true, said: "gain 1.2" }));
  control.attach("secret", channel);
  assert.equal(await control.send("set_gain", 1.2), "gain 1.2");
  assert.equal(await control.send("calibrate"), "gain 1.2");
  assert.deepEqual(channel.sent, [{ v: 1, id: 1, command: "set_gain", value: 1.2 }, { v: 1, id: 2, command: "calibrate" }]);
  assert.deepEqual(requests, []);
});

test("a refusal with the command's id fails that command at once", { timeout: 2000 }, async () => {
  const error = { code: "pipeline-busy", found: "a pipeline that is busy", expected: "", cure: "try again" };
  control.attach("secret", new FakeChannel(({ id }) => ({ id, ok: false, error })));
  await assert.rejects(control.send("calibrate"), { code: "pipeline-busy", cure: "try again" });
  assert.deepEqual(heard, []);
});

test("states, notices, refusals without an id and a failure are reported", () => {
  const channel = new FakeChannel(() => null);
  control.attach("secret", channel);
  channel.receive({ state: { frames: 3 } });
  channel.receive({ notice: "the camera is lost" });
  channel.receive({ ok: false, error: { code: "message-rate", found: "too many messages" } });
  channel.receive({ error: { code: "source-lost", found: "no picture for 15 s" } });
  assert.deepEqual(heard, [["state", 3], ["notice", "the camera is lost"], ["refused", "message-rate"], ["failed", "source-lost"]]);
  assert.ok(control.stateAt > 0);
});

test("a channel of an earlier session is not heard", () => {
  const channel = new FakeChannel(() => null);
  control.attach("one", channel);
  control.attach("two", new FakeChannel(() => null));
  channel.receive({ notice: "late" });
  assert.deepEqual(heard, []);
});

test("without a channel a command goes over HTTP, to its session", async () => {
  answerWith(() => Response.json({ v: 1, id: 1, ok: true, said: "mirrored" }));
  control.attach("a/b");
  assert.equal(await control.send("set_mirror", true), "mirrored");
  assert.equal(requests[0].path, "/api/control?session=a%2Fb");
  control.attach(null);
  await control.send("set_mirror", true);
  assert.equal(requests[1].path, "/api/control");
});

test("a refusal over HTTP has its code and status", async () => {
  answerWith(() => problem(400, { code: "command-bad-value", found: "the value 9" }));
  await assert.rejects(control.send("set_gain", 9), { code: "command-bad-value", status: 400 });
});

test("a reply that never comes is an error of the page", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  control.attach("secret", new FakeChannel(() => null));
  const sending = assert.rejects(control.send("calibrate"), { code: CODES.noReply });
  context.mock.timers.tick(5000);
  await sending;
});
