import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { CODES } from "../../realtime/webrtc/page/errors.js";
import { ModeMachine } from "../../realtime/webrtc/page/modes.js";
import { resetMode, resetSession, state } from "../../realtime/webrtc/page/state.js";
import { uploadPicture, Uploads } from "../../realtime/webrtc/page/uploads.js";
import { answerWith, requests, settle, usePage } from "./fake_page.js";

usePage();

const FILE = new File(["a picture"], "me.jpg", { type: "image/jpeg" });
const feedback = () => document.getElementById("feedback");
let modes;
let control;
let uploads;
let answer;
let asked;
beforeEach(() => {
  answer = async () => "agreed";
  asked = 0;
  resetMode();
  resetSession();
  modes = new ModeMachine("loading", resetMode);
  control = { session: null, get query() { return this.session ? `?session=${this.session}` : ""; } };
  const gallery = { ready: true, holds: () => gallery.ready, load: async () => {}, mark: () => {} };
  uploads = new Uploads({
    modes,
    control,
    gallery,
    askForRight: () => {
      asked += 1;
      return answer();
    },
  });
  uploads.gallery = gallery;
  answerWith(() => Response.json({ v: 1, index: 3, name: "me" }, { status: 201 }));
});

const posts = () => requests.filter(({ method }) => method === "POST").map(({ path }) => path);

const WITHOUT_SESSION = { loading: [], idle: ["idle"], trouble: ["live", "trouble"], live: ["live"] };
for (const [name, way] of Object.entries(WITHOUT_SESSION)) {
  test(`in the mode ${name} a picture is kept for the user's own session and never posted`, async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    for (const mode of way) modes.enter(mode);
    const adding = uploads.add(FILE);
    for (let waited = 0; waited < 20_000; waited += 250) {
      await settle();
      context.mock.timers.tick(250);
    }
    await adding;
    assert.equal(state.wish.file, FILE);
    assert.deepEqual(requests, []);
    assert.match(feedback().textContent, /as soon as you are live/);
  });
}

test("in the user's own session a picture goes to that session", async () => {
  modes.enter("live");
  control.session = "secret";
  state.run = { portraits: 2 };
  await uploads.add(FILE);
  assert.deepEqual(posts(), ["/api/portraits?session=secret&name=me&consent=agreed"]);
  assert.equal(state.uploaded, FILE);
});

test("on the page of a main run a picture goes to everyone, and the page says so", async () => {
  modes.enter("main");
  state.run = { portraits: 2 };
  await uploads.add(FILE);
  assert.deepEqual(posts(), ["/api/portraits?name=me&consent=agreed"]);
  assert.match(feedback().textContent, /to everyone/);
});

test("what right the user has to a picture is asked once, also where it is sent again", async () => {
  modes.enter("live");
  control.session = "secret";
  state.run = { portraits: 2 };
  await uploads.add(FILE);
  await uploads.add(FILE);
  assert.equal(posts().length, 2);
  assert.equal(asked, 1);
});

test("a picture without an answer is not sent and not kept", async () => {
  answer = async () => null;
  modes.enter("main");
  state.run = { portraits: 2 };
  await uploads.add(FILE);
  resetMode();
  modes.enter("idle");
  await uploads.add(FILE);
  assert.deepEqual(posts(), []);
  assert.equal(state.wish.file, null);
  assert.match(feedback().textContent, /not used/);
});

test("a picture for the user's own session does not go to everyone where the mode changed during the answer", async () => {
  modes.enter("live");
  control.session = "secret";
  let reply = () => {};
  answer = () => new Promise((resolve) => { reply = resolve; });
  const adding = uploads.add(FILE);
  await settle();
  modes.enter("loading");
  modes.enter("main");
  state.run = { portraits: 2 };
  reply("self");
  await adding;
  assert.deepEqual(posts(), []);
});

test("a session that is lost meanwhile gets no picture, and neither does the main run", async () => {
  modes.enter("live");
  control.session = "secret";
  uploads.gallery.ready = false;
  const adding = uploads.add(FILE);
  await settle();
  control.session = "another";
  await adding;
  assert.deepEqual(posts(), []);
  assert.ok(feedback().classList.contains("warn"));
});

test("a mode that is left meanwhile ends the upload", async () => {
  modes.enter("live");
  control.session = "secret";
  uploads.gallery.ready = false;
  const adding = uploads.add(FILE);
  await settle();
  modes.enter("loading");
  await adding;
  assert.deepEqual(posts(), []);
});

test("a run without pictures gets none by a time-out", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  modes.enter("main");
  const adding = uploads.add(FILE);
  for (let waited = 0; waited < 20_000; waited += 250) {
    await settle();
    context.mock.timers.tick(250);
  }
  await adding;
  assert.deepEqual(posts(), []);
  assert.ok(feedback().classList.contains("warn"));
});

test("a file that is too large or no picture is refused before it is sent", async () => {
  const { signal } = new AbortController();
  const large = { name: "a.jpg", type: "image/jpeg", size: 20 << 20 };
  await assert.rejects(uploadPicture(large, "", signal, "self"), { code: CODES.tooLarge });
  await assert.rejects(uploadPicture(new File(["x"], "a.txt", { type: "text/plain" }), "", signal, "self"), { code: CODES.notPicture });
  assert.deepEqual(requests, []);
});
