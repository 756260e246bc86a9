import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Commands } from "../../realtime/webrtc/page/commands.js";
import { ReenactError } from "../../realtime/webrtc/page/errors.js";
import { ModeMachine } from "../../realtime/webrtc/page/modes.js";
import { resetMode, resetSession, state } from "../../realtime/webrtc/page/state.js";
import { usePage } from "./fake_page.js";

usePage();

const feedback = () => document.getElementById("feedback");
let modes;
let control;
let commands;
let refused;
beforeEach(() => {
  resetMode();
  resetSession();
  refused = [];
  modes = new ModeMachine("loading", resetMode);
  control = { session: null, sent: [], send: async (...command) => { control.sent.push(command); return "gain 2"; } };
  commands = new Commands({ modes, control, refuse: (error) => refused.push(error.code) });
});

test("without an own session no command goes to the main run", async () => {
  modes.enter("live");
  await commands.send("next_portrait");
  const gallery = { mark: () => {}, picture: "x.jpg" };
  commands.choose({ index: 1, name: "one", picture: "x.jpg" }, gallery);
  assert.deepEqual(control.sent, []);
  assert.deepEqual(state.wish, { portrait: 1, file: null });
});

test("what is sent is remembered until the next state", async () => {
  modes.enter("main");
  state.run = { gain: 1 };
  await commands.send("set_gain", 2);
  assert.deepEqual(control.sent, [["set_gain", 2]]);
  assert.deepEqual(state.run, { gain: 2 });
  assert.equal(feedback().textContent, "Gain 2");
});

test("a refusal is shown, and one for want of a token asks for it", async () => {
  modes.enter("main");
  control.send = async () => { throw new ReenactError({ code: "token-missing", status: 401, found: "no token" }); };
  await commands.send("calibrate");
  assert.deepEqual(refused, ["token-missing"]);
  assert.equal(feedback().textContent, "No token.");
  assert.ok(feedback().classList.contains("warn"));
});

test("a click on a face in the user's own picture has it drive", async () => {
  modes.enter("main");
  state.run = { driver: "auto" };
  commands.connectControls();
  const video = document.getElementById("preview");
  Object.assign(video, { videoWidth: 640, videoHeight: 480, getBoundingClientRect: () => ({ left: 0, top: 0, width: 320, height: 240 }) });
  video.dispatchEvent(Object.assign(new Event("click"), { clientX: 80, clientY: 60 }));
  await Promise.resolve();
  assert.deepEqual(control.sent, [["set_driver", "0.250,0.250"]]);
  video.dispatchEvent(Object.assign(new Event("click"), { clientX: 400, clientY: 60 }));
  assert.equal(control.sent.length, 1);
});
