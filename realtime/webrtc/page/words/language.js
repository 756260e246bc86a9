// The language of the page: the browser's, or the one that the user has chosen.

import en from "./en.js";

/** @typedef {string | Record<string, string>} Entry a text, or one for each plural form of `count` */
/** @typedef {Record<string, Entry>} Words */

/** The languages by code, each with its own name. */
export const LANGUAGES = { en: "English", zh: "中文", de: "Deutsch", fr: "Français", es: "Español" };
/** @typedef {keyof typeof LANGUAGES} Language */

const STORED = "reenact.language";
/** @type {Record<Exclude<Language, "en">, () => Promise<{default: Words}>>} */
const TABLES = {
  zh: () => import("./zh.js"),
  de: () => import("./de.js"),
  fr: () => import("./fr.js"),
  es: () => import("./es.js"),
};

/**
 * Return the first language that the page has among those that are wanted; English where it has none of them.
 * @param {readonly string[]} wanted codes such as "de-AT", the best first
 * @returns {Language}
 */
export function languageOf(wanted) {
  const codes = wanted.map((each) => each.toLowerCase().split(/[-_]/)[0]);
  return /** @type {Language} */ (codes.find((code) => Object.hasOwn(LANGUAGES, code)) ?? "en");
}

/** What the user has chosen, before the browser's languages. */
function wantedLanguages() {
  // a test in Node has neither, and speaks English
  if (typeof document === "undefined") return [];
  return [...[stored() ?? []].flat(), ...navigator.languages];
}

/** The language of the page. */
export const language = languageOf(wantedLanguages());
/** @type {Words} */
const words = language === "en" ? en : (await TABLES[language]()).default;

/**
 * Return a text of the page in a table.
 * @param {Words} table
 * @param {string} code of the table's language
 * @param {string} key
 * @param {Record<string, string | number>} values for the names in braces; `count` chooses the plural form
 */
export function textOf(table, code, key, values = {}) {
  const entry = table[key];
  if (entry === undefined) throw new Error(`no text ${key}`);
  const form = typeof entry === "string" ? "" : new Intl.PluralRules(code).select(Number(values.count));
  const text = typeof entry === "string" ? entry : entry[form] ?? entry.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/**
 * Return a text in the language of the page.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values) {
  return textOf(words, language, key, values);
}

/**
 * Return whether there is a text.
 * @param {string} key
 */
export function hasText(key) {
  return Object.hasOwn(words, key);
}

/** Put the texts of the language into the page, which is written in English. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.getAttribute("data-t") ?? "");
  for (const attribute of ["aria-label", "title"]) {
    const name = `data-t-${attribute}`;
    for (const element of document.querySelectorAll(`[${name}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(name) ?? ""));
    }
  }
}

/**
 * Fill a list with the languages. One that is chosen is kept, and the page loaded again in it.
 * @param {HTMLSelectElement} select
 */
export function setUpLanguages(select) {
  select.replaceChildren(...Object.entries(LANGUAGES).map(([code, name]) => {
    const option = new Option(name, code, false, code === language);
    option.lang = code;
    return option;
  }));
  select.addEventListener("change", () => {
    try {
      localStorage.setItem(STORED, select.value);
    } catch {
      // a browser that keeps no data for sites goes by its own language
    }
    location.reload();
  });
}

function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}
