// `Link` headers (RFC 8288), by which WHIP and WHEP name ICE servers and the address for viewers.

/** @typedef {{url: string} & Record<string, string>} Link `url`, `rel` and the other parameters in lower case */

const LINK = /<([^>]*)>((?:\s*;\s*[\w-]+(?:=(?:"[^"]*"|[^",;]*))?)*)/g;
const PARAMETER = /;\s*([\w-]+)(?:=(?:"([^"]*)"|([^",;]*)))?/g;

/**
 * Return the links of a `Link` header.
 * @param {?string} header
 * @returns {Link[]}
 */
export function parseLinks(header) {
  const links = [];
  for (const [, url, parameters] of (header || "").matchAll(LINK)) {
    /** @type {Link} */
    const link = { url };
    for (const [, name, quoted, bare] of parameters.matchAll(PARAMETER)) {
      link[name.toLowerCase()] = quoted ?? (bare || "").trim();
    }
    links.push(link);
  }
  return links;
}

/**
 * Return those of the links that are ICE servers, as RTCPeerConnection takes them.
 * @param {Link[]} links
 * @returns {RTCIceServer[]}
 */
export function iceServersOf(links) {
  return links.filter((link) => link.rel === "ice-server").map(({ url, username, credential }) => (
    username ? { urls: url, username, credential } : { urls: url }
  ));
}
