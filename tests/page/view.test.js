import assert from "node:assert/strict";
import { test } from "node:test";

import { showRun, showStill } from "../../realtime/webrtc/page/view.js";
import { usePage } from "./fake_page.js";

usePage();

test("the object URL of a picture is revoked when another one is shown, or none", (context) => {
  const created = [];
  const revoked = [];
  context.mock.method(URL, "createObjectURL", () => created[created.push(`blob:${created.length}`) - 1]);
  context.mock.method(URL, "revokeObjectURL", (url) => revoked.push(url));
  const image = document.getElementById("still");
  showStill(new Blob(["one"]));
  showStill(new Blob(["two"]));
  assert.deepEqual([image.src, image.hidden], ["blob:1", false]);
  showStill("http://host/api/portraits/0.jpg");
  assert.equal(image.src, "http://host/api/portraits/0.jpg");
  showStill(new Blob(["three"]));
  showStill(null);
  assert.equal(image.hidden, true);
  assert.deepEqual(revoked, created);
  assert.equal(created.length, 3);
});

test("no word is chosen while a face drives that was clicked on", () => {
  const words = ["auto", "left"].map((value) => Object.assign(document.createElement("input"), { value }));
  document.getElementById("driver").replaceChildren(...words);
  showRun({ driver: "left" });
  assert.deepEqual(words.map((each) => each.checked), [false, true]);
  showRun({ driver: "0.250,0.5" });
  assert.deepEqual(words.map((each) => each.checked), [false, false]);
});

test("what networks make is offered where there are networks", () => {
  const [choice, mouth] = ["refined", "mouth-neural"].map((id) => document.getElementById(id));
  showRun({ refined: null, mouths: ["driver", "painted"] });
  assert.deepEqual([choice.hidden, mouth.hidden], [true, true]);
  showRun({ refined: false, mouths: ["driver", "neural", "painted"] });
  assert.deepEqual([choice.hidden, mouth.hidden], [false, false]);
});
