import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";

import { labelOf, GROUPS } from "../../realtime/webrtc/page/expression.js";
import { errorText, viewersText } from "../../realtime/webrtc/page/words.js";
import { LANGUAGES, languageOf, textOf } from "../../realtime/webrtc/page/words/language.js";

const PAGE = new URL("../../realtime/webrtc/page/", import.meta.url);
const NAMES = readdirSync(PAGE, { recursive: true }).map((each) => each.replaceAll("\\", "/"));
const MODULES = NAMES.filter((each) => each.endsWith(".js") && !/^words\/\w\w\.js$/.test(each));
const read = (name) => readFileSync(new URL(name, PAGE), "utf-8");
const tables = {};
for (const code of Object.keys(LANGUAGES)) tables[code] = (await import(new URL(`words/${code}.js`, PAGE).href)).default;
const formsOf = (entry) => (typeof entry === "string" ? [entry] : Object.values(entry));
const namesIn = (entry) => [...new Set(formsOf(entry).flatMap((text) => text.match(/\{\w+\}/g) ?? []))].sort();

/** What is no text: a state of the server, and a selector. */
const PROTOCOL = ['"camera lost"', '"input:not([type=range], [type=radio]), select, textarea"'];
/** Words that are the same in another language. */
const SAME = /^(auto|signIn\.token|name|status\.live|add\.name|portraits|mouth\.\w+|background\.\w+|expression|source|region\.\w+|rates|age\.\w+|share\.\w+|stage\.\w+|side\.\w+|mix|no|error\.\w+(\.\w+)?|control\.\w+)$/;

for (const code of Object.keys(LANGUAGES)) {
  describe(LANGUAGES[code], () => {
    test("has every text, and no other", () => {
      assert.deepEqual(Object.keys(tables[code]), Object.keys(tables.en));
    });

    test("has text for every plural, and the same values as in English", () => {
      for (const [key, entry] of Object.entries(tables[code])) {
        assert.deepEqual(namesIn(entry), namesIn(tables.en[key]), key);
        for (const text of formsOf(entry)) assert.ok(text.trim() === text && text, key);
        assert.equal(typeof entry, typeof tables.en[key], key);
        if (typeof entry !== "string") {
          assert.ok(entry.other, key);
          // the forms of whole numbers that are shown
          for (const count of [0, 1, 2, 5, 11]) assert.doesNotMatch(textOf(tables[code], code, key, { count }), /\{|undefined/);
        }
      }
    });

    test("is not left in English", () => {
      if (code === "en") return;
      const left = Object.keys(tables.en).filter((key) => !SAME.test(key) && JSON.stringify(tables[code][key]) === JSON.stringify(tables.en[key]));
      assert.deepEqual(left, []);
    });
  });
}

test("a plural follows the number", () => {
  assert.equal(viewersText(1), "1 viewer");
  assert.equal(viewersText(0), "0 viewers");
  assert.equal(textOf(tables.fr, "fr", "viewers", { count: 0 }), "0 spectateur");
  assert.equal(textOf(tables.es, "es", "viewers", { count: 1 }), "1 espectador");
  assert.equal(textOf(tables.zh, "zh", "viewers", { count: 1 }), "1 位观众");
});

test("the browser's first language that the page has is taken", () => {
  assert.equal(languageOf(["pt-BR", "de-AT", "en"]), "de");
  assert.equal(languageOf(["zh-Hant-TW"]), "zh");
  assert.equal(languageOf(["pt"]), "en");
  assert.equal(languageOf([]), "en");
  assert.equal(languageOf(["toString"]), "en");
});

test("every text that is asked for is there", () => {
  const asked = MODULES.flatMap((name) => [...read(name).matchAll(/\bt\(([^()]*(?:\([^()]*\))?[^()]*)/g)].flatMap(([, call]) => [...call.split(", {")[0].matchAll(/"([\w.]+)"/g)].map(([, key]) => [name, key])));
  const named = ["index.html", "guest/index.html"].flatMap((name) => [...read(name).matchAll(/data-t(?:-[\w-]+)?="([^"]*)"/g)].map(([, key]) => [name, key]));
  assert.ok(asked.length > 80 && named.length > 80);
  const comparisons = ["main", "watch", "other"];
  for (const [name, key] of [...asked, ...named]) assert.ok(key in tables.en || comparisons.includes(key), `${name}: ${key}`);
});

test("every control of the expression has a name", () => {
  for (const name of Object.values(GROUPS).flat()) {
    assert.ok(labelOf(name));
    if (name.endsWith("*")) assert.match(labelOf(name.replace("*", "Left")), / left$/);
  }
});

test("what the server says is shown in English as it is", () => {
  assert.equal(errorText({ code: "server-full", found: "it is full", cure: "try later" }), "It is full. Try later.");
});

test("no text of a module bypasses the tables", () => {
  // strings first, so that what looks like a comment in one is none
  const token = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|\/\*[\s\S]*?\*\/|\/\/.*/g;
  const forDevelopers = /new (Error|DOMException)\(.*$/;
  const shown = /(textContent = |title: |text: |found: |cure: |expected: |showStatus\("\w+", |new Option\(|announce\w*\(|showFeedback\()["'`][A-Za-z]/;
  const found = [];
  for (const name of MODULES.filter((each) => each !== "network/link_headers.js")) {
    for (const line of read(name).replace(/\/\*[\s\S]*?\*\//g, "").split("\n")) {
      const code = line.replace(forDevelopers, "");
      for (const [text] of code.matchAll(token)) {
        if (text.startsWith("/")) continue;
        if (PROTOCOL.includes(text)) continue;
        const words = text.slice(1, -1).replace(/\$\{[^}]*\}/g, "");
        if (/[A-Za-z]{2,}[,:.]? [a-z]{2,}/.test(words)) found.push(`${name}: ${text}`);
      }
      if (shown.test(code.replace(/\/\/.*/, ""))) found.push(`${name}: ${line.trim()}`);
    }
  }
  assert.deepEqual(found, []);
});
