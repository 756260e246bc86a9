import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Interruptions, kindOf } from "../../realtime/webrtc/page/interruptions.js";
import { ReenactError } from "../../realtime/webrtc/page/errors.js";
import { ModeMachine } from "../../realtime/webrtc/page/modes.js";
import { encode, toPath } from "../../realtime/webrtc/page/share/qr.js";
import { ShareDialog, guestAddress } from "../../realtime/webrtc/page/share/share.js";
import { expiryText } from "../../realtime/webrtc/page/words.js";
import { answerWith, requests, settle, usePage } from "./fake_page.js";

const CLOSED = { state: "closed", addresses: [] };
const OPEN = { state: "open", addresses: ["http://192.168.1.7:8080/"] };

describe("on the computer where the program runs", () => {
  usePage("http://127.0.0.1:8080/");

  test("a link has the address in the local network, once that is open", () => {
    assert.equal(guestAddress("/guest/x", CLOSED), "http://127.0.0.1:8080/guest/x");
    assert.equal(guestAddress("/guest/x", OPEN), "http://192.168.1.7:8080/guest/x");
  });

  test("the newest link is offered, as text and as a code", async () => {
    const links = ["one", "two"].map((id) => ({ id, path: `/guest/${id}`, expires_in_s: 600, viewers: 1 }));
    answerWith(() => Response.json({ v: 1, links, local_network: CLOSED }));
    await new ShareDialog(() => "?session=s").refresh();
    const of = (id) => document.getElementById(id);
    assert.equal(of("share-link").value, "http://127.0.0.1:8080/guest/two");
    assert.match(of("share-code").getAttribute("viewBox"), /^0 0 \d+ \d+$/);
    assert.equal(of("share-links").children.length, 2);
    assert.equal(of("share-local").hidden, false);
    assert.equal(of("share-ask").hidden, false);
    assert.equal(of("share-shut").hidden, true);
    assert.equal(requests[0].path, "/api/links?session=s");
  });

  test("a link is revoked", async () => {
    const links = [{ id: "a/b", path: "/guest/x", expires_in_s: 600, viewers: 0 }];
    answerWith((method) => (method === "DELETE" ? new Response(null, { status: 204 }) : Response.json({ v: 1, links, local_network: OPEN })));
    await new ShareDialog(() => "?session=s").refresh();
    const [item] = document.getElementById("share-links").children;
    links.length = 0;
    item.children[1].click();
    await settle();
    await settle();
    assert.deepEqual(requests.map(({ method, path }) => [method, path])[1], ["DELETE", "/api/links/a%2Fb?session=s"]);
    assert.equal(document.getElementById("share-link").value, "");
    assert.equal(document.getElementById("share-links").children.length, 0);
  });
});

describe("on another computer, behind a proxy", () => {
  usePage("https://host/below/");

  test("a link has the address of the page", async () => {
    assert.equal(guestAddress("/guest/x", OPEN), "https://host/below/guest/x");
    answerWith(() => Response.json({ v: 1, links: [], local_network: OPEN }));
    await new ShareDialog(() => "").refresh();
    assert.equal(document.getElementById("share-local").hidden, true);
  });
});

describe("a guest", () => {
  usePage("http://host/guest/x");

  for (const code of ["guest-link-wrong", "guest-link-old", "guest-link-revoked"]) {
    test(`is told what ${code} means, and is not asked to sign in`, () => {
      const error = new ReenactError({ code, status: code === "guest-link-wrong" ? 404 : 410, found: "x" });
      assert.equal(kindOf(error, true), "refused");
      new Interruptions(new ModeMachine("watch", () => {})).refuse(error);
      assert.match(document.getElementById("overlay-title").textContent, /^This link/);
      assert.equal(document.getElementById("overlay-actions").children.length, 0);
    });
  }
});

test("a code has the size of its text", () => {
  assert.equal(encode("x").length, 21);
  assert.equal(encode("x".repeat(213)).length, 57);
  assert.equal(encode("x".repeat(214)), null);
  assert.equal(toPath(encode("x")).width, 29);
});

test("a link says until when it is valid", () => {
  const noon = new Date(2030, 0, 1, 12, 0).getTime();
  assert.notEqual(expiryText(3600, noon), expiryText(7200, noon));
});
