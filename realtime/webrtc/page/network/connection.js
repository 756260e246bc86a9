// WHIP (RFC 9725) and WHEP: one peer connection each, from the offer to the end.

import { CODES, ReenactError } from "../errors.js";
import { t } from "../words/language.js";
import { iceServersOf, parseLinks } from "./link_headers.js";
import { request, urlOf } from "./server.js";

const GATHER_MS = 250;
const CONNECT_MS = 12000;
const LOST_MS = 4000;
const MAX_BITRATE = 2500000;
const MAX_FRAMERATE = 30;

/** An open peer connection and its address at the server. */
export class Peer {
  /** @param {RTCPeerConnection} pc */
  constructor(pc) {
    this.pc = pc;
    /** @type {?string} */
    this.location = null;
    /** @type {?string} */
    this.etag = null;
    /** The address where what is published can be watched. @type {?string} */
    this.watch = null;
    /** Whether no picture is sent yet. */
    this.held = false;
    /** @type {?RTCRtpSender} */
    this.sender = null;
    /** Sends the sound; without a track it sends nothing. @type {?RTCRtpSender} */
    this.soundSender = null;
    /** @type {?RTCDataChannel} */
    this.control = null;
    /** @type {(reason: ReenactError) => void} */
    this.fail = () => {};
    /** @type {() => void} */
    this.ready = () => {};
    /** Settles with the reason once the connection is of no more use. @type {Promise<ReenactError>} */
    this.broken = new Promise((resolve) => { this.fail = resolve; });
    /** Settles once media can flow. @type {Promise<void>} */
    this.connected = new Promise((resolve) => { this.ready = resolve; });
    this.deadline = this.#failLater(CONNECT_MS, CODES.timeout);
    pc.addEventListener("connectionstatechange", () => this.#stateChanged());
  }

  /** The secret of the session that a publisher has opened. */
  get session() {
    return lastPart(this.location);
  }

  #stateChanged() {
    const state = this.pc.connectionState;
    if (state === "connecting") return;
    clearTimeout(this.deadline);
    if (state === "connected") this.ready();
    else if (state === "disconnected") this.deadline = this.#failLater(LOST_MS, CODES.lost);
    else this.end(CODES.lost);
  }

  /**
   * @param {number} ms
   * @param {string} code
   */
  #failLater(ms, code) {
    return setTimeout(() => this.end(code), ms);
  }

  /**
   * Report that the connection is of no more use.
   * @param {string} code
   */
  end(code) {
    this.fail(new ReenactError({ code, found: t("error.lost") }));
  }

  /** Close the connection and tell the server, also while the page is being left. Idempotent. */
  close() {
    clearTimeout(this.deadline);
    if (this.location) {
      request(this.location, { method: "DELETE", keepalive: true }).catch(() => {});
      this.location = null;
    }
    this.pc.close();
    this.end(CODES.ended);
  }
}

/**
 * Publish a camera's track. Where `held`, no picture is sent before the track is given to `peer.sender`. Sound is sent
 * once a microphone's track is given to `peer.soundSender`.
 * Commands go over `peer.control`. Throws ReenactError.
 * @param {MediaStreamTrack} track
 * @param {boolean} held
 * @param {AbortSignal} signal
 * @returns {Promise<Peer>}
 */
export function publish(track, held, signal) {
  return connect("whip", signal, (peer) => {
    const { pc } = peer;
    peer.held = held;
    track.contentHint = "motion";
    peer.sender = pc.addTransceiver(held ? "video" : track, {
      direction: "sendonly",
      sendEncodings: [{ maxBitrate: MAX_BITRATE, maxFramerate: MAX_FRAMERATE }],
    }).sender;
    // always offered: the microphone may be allowed later
    peer.soundSender = pc.addTransceiver("audio", { direction: "sendonly" }).sender;
    peer.control = pc.createDataChannel("control");
    peer.control.addEventListener("close", () => peer.end(CODES.ended));
  });
}

/**
 * Watch a stream. `show` gets it as soon as its tracks are known, before there are pictures. Throws ReenactError.
 * @param {string} address
 * @param {boolean} sound whether to hear it as well
 * @param {(stream: MediaStream) => void} show
 * @param {AbortSignal} signal
 * @returns {Promise<Peer>}
 */
export function watch(address, sound, show, signal) {
  return connect(address, signal, (peer) => {
    const { receiver } = peer.pc.addTransceiver("video", { direction: "recvonly" });
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    const tracks = [receiver.track];
    if (sound) tracks.push(peer.pc.addTransceiver("audio", { direction: "recvonly" }).receiver.track);
    show(new MediaStream(tracks));
  });
}

/**
 * Return the last part of an address: the id of a session or a stream.
 * @param {?string} address
 */
export function lastPart(address) {
  return address ? new URL(address, location.href).pathname.split("/").pop() || null : null;
}

/**
 * @param {string} address
 * @param {AbortSignal} signal
 * @param {(peer: Peer) => void} prepare
 */
async function connect(address, signal, prepare) {
  const iceServers = await fetchIceServers(address, signal);
  signal.throwIfAborted();
  const peer = new Peer(new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" }));
  const { pc } = peer;
  const close = () => peer.close();
  signal.addEventListener("abort", close);
  peer.broken.then(() => signal.removeEventListener("abort", close));
  try {
    prepare(peer);
    /** @type {RTCIceCandidate[]} */
    const found = [];
    let answered = false;
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (answered) trickle(peer, candidate ? [candidate] : []);
      else if (candidate) found.push(candidate);
    });
    await pc.setLocalDescription();
    await gathered(pc);
    const offer = /** @type {RTCSessionDescription} */ (pc.localDescription).sdp;
    const answer = await exchange(peer, address, offer, signal);
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    // it closes at once when the server ends the connection; ICE takes seconds to notice
    const { transport } = pc.getReceivers()[0];
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed") peer.end(CODES.ended);
    });
    answered = true;
    const late = found.filter((each) => !offer.includes(each.candidate));
    if (late.length) trickle(peer, late);
    return peer;
  } catch (error) {
    peer.close();
    throw error;
  }
}

/**
 * Post the offer, remember what the server says of the new peer, and return the answer.
 * @param {Peer} peer
 * @param {string} address
 * @param {string} offer
 * @param {AbortSignal} signal
 */
async function exchange(peer, address, offer, signal) {
  const headers = { "Content-Type": "application/sdp" };
  const response = await request(address, { method: "POST", headers, body: offer, signal });
  if (response.status !== 201) throw await ReenactError.fromResponse(response);
  const named = (/** @type {?string} */ each) => (each ? urlOf(each, response.url) : null);
  peer.location = named(response.headers.get("Location"));
  peer.etag = response.headers.get("ETag");
  const links = parseLinks(response.headers.get("Link"));
  peer.watch = named(links.find((link) => link.rel === "watch")?.url ?? null);
  const answer = await response.text();
  signal.throwIfAborted();
  return answer;
}

/**
 * Return the STUN and TURN servers of this moment. Their credentials expire: ask before every connection.
 * @param {string} address
 * @param {AbortSignal} signal
 */
async function fetchIceServers(address, signal) {
  const response = await request(address, { method: "OPTIONS", signal });
  // whatever is wrong, POST is answered with the reason
  return response.ok ? iceServersOf(parseLinks(response.headers.get("Link"))) : [];
}

/**
 * Wait until all candidates are known, but only for a moment: the others are sent later.
 * @param {RTCPeerConnection} pc
 * @returns {Promise<void>}
 */
function gathered(pc) {
  if (pc.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * Send candidates that were found after the offer went out (RFC 9725, section 4.3.2); none says that there are no more.
 * @param {Peer} peer
 * @param {RTCIceCandidate[]} candidates
 */
function trickle(peer, candidates) {
  if (!peer.location || !peer.pc.localDescription) return;
  const { sdp } = peer.pc.localDescription;
  const line = (/** @type {RegExp} */ pattern) => (pattern.exec(sdp) || [""])[0].trim();
  const lines = [line(/^a=ice-ufrag:.*$/m), line(/^a=ice-pwd:.*$/m), line(/^m=.*$/m), line(/^a=mid:.*$/m)];
  for (const { candidate } of candidates) lines.push(`a=${candidate}`);
  if (!candidates.length) lines.push("a=end-of-candidates");
  request(peer.location, {
    method: "PATCH",
    headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": peer.etag || "*" },
    body: `${lines.join("\r\n")}\r\n`,
  }).catch(() => {});
}
