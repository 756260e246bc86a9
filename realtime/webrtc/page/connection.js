// WHIP (RFC 9725) and WHEP: one peer connection each, opened, kept and closed.

const GATHER_MS = 250;
const CONNECT_MS = 12000;
const LOST_MS = 4000;
const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 15000];
const FAILED_S = 5;

/** The server said no. */
export class Refusal extends Error {
  constructor(status, problem, retryAfterS) {
    super(problem ? problem.found : `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
    this.retryAfterS = retryAfterS;
  }

  /** Whether this is not the program's own word: a proxy before it says that it is away for the moment. */
  get passing() {
    return this.problem === null && (this.status >= 500 || this.status === 408 || this.status === 429);
  }

  static async of(response) {
    let problem = null;
    try {
      const body = await response.json();
      problem = body.error || (body.code ? body : null);
    } catch {
      // no JSON: the status has to do
    }
    return new Refusal(response.status, problem, Number(response.headers.get("Retry-After")) || null);
  }
}

/** The server has said what the session failed of: found, expected, cure. */
export class Failure extends Error {
  constructor(problem) {
    super(problem.found);
    this.problem = problem;
    /** Long enough to read it. */
    this.retryAfterS = FAILED_S;
  }
}

/** An open peer connection and its address at the server. */
export class Peer {
  constructor(pc) {
    this.pc = pc;
    this.location = null;
    this.etag = null;
    this.watch = null;
    /** Settles with the reason, a word or a Failure, once the connection is of no use any more. */
    this.broken = new Promise((resolve) => { this.fail = resolve; });
    /** Settles once media can flow. */
    this.connected = new Promise((resolve) => { this.ready = resolve; });
    this.deadline = setTimeout(() => this.fail("timeout"), CONNECT_MS);
    pc.addEventListener("connectionstatechange", () => this.#changed());
  }

  #changed() {
    const state = this.pc.connectionState;
    if (state === "connecting") return;
    clearTimeout(this.deadline);
    if (state === "connected") this.ready();
    else if (state === "disconnected") this.deadline = setTimeout(() => this.fail("lost"), LOST_MS);
    else this.fail(state);
  }

  /** End it, also while the page goes away. */
  close() {
    clearTimeout(this.deadline);
    if (this.location) {
      fetch(this.location, { method: "DELETE", keepalive: true }).catch(() => {});
      this.location = null;
    }
    this.pc.close();
    this.fail("closed");
  }
}

/**
 * Publish a camera's track; ``held``: no picture goes out before the sender is given the track.
 * The control channel is ``peer.control``.
 */
export function publish(track, held, signal) {
  return connect("/whip", signal, (peer) => {
    const { pc } = peer;
    peer.held = held;
    track.contentHint = "motion";
    const sender = pc.addTransceiver(held ? "video" : track, {
      direction: "sendonly",
      sendEncodings: [{ maxBitrate: 2500000, maxFramerate: 30 }],
    }).sender;
    peer.sender = sender;
    peer.control = pc.createDataChannel("control");
    peer.control.addEventListener("close", () => peer.fail("ended"));
  });
}

/** Watch a stream: its track goes to ``show`` as soon as it is known. */
export function watch(url, show, signal) {
  return connect(url, signal, (peer) => {
    const { pc } = peer;
    const { receiver } = pc.addTransceiver("video", { direction: "recvonly" });
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    show(new MediaStream([receiver.track]));
  });
}

async function connect(url, signal, prepare) {
  const iceServers = await findIceServers(url, signal);
  signal.throwIfAborted();
  const peer = new Peer(new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" }));
  const { pc } = peer;
  const end = () => peer.close();
  signal.addEventListener("abort", end, { once: true });
  try {
    prepare(peer);
    const late = [];
    let posted = false;
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (posted) trickle(peer, candidate ? [candidate] : []);
      else if (candidate) late.push(candidate);
    });
    await pc.setLocalDescription();
    await gathered(pc);
    const sent = pc.localDescription.sdp;
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: sent,
      signal,
    });
    if (response.status !== 201) throw await Refusal.of(response);
    peer.location = response.headers.get("Location");
    peer.etag = response.headers.get("ETag");
    const answer = await response.text();
    const links = readLinks(response.headers.get("Link"));
    peer.watch = (links.find((link) => link.rel === "watch") || {}).url || null;
    signal.throwIfAborted();
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    // it closes at once when the server ends the connection; ICE takes seconds to notice
    const { transport } = pc.getReceivers()[0];
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed") peer.fail("ended");
    });
    posted = true;
    const missing = late.filter((each) => !sent.includes(each.candidate));
    if (missing.length) trickle(peer, missing);
    return peer;
  } catch (error) {
    peer.close();
    throw error;
  } finally {
    peer.broken.then(() => signal.removeEventListener("abort", end));
  }
}

/** The STUN and TURN servers of this moment: asked before every connection, as their credentials expire. */
async function findIceServers(url, signal) {
  const response = await fetch(url, { method: "OPTIONS", signal });
  // whatever is wrong, POST is answered with the reason
  if (!response.ok) return [];
  return readLinks(response.headers.get("Link")).filter((link) => link.rel === "ice-server").map(iceServer);
}

function gathered(pc) {
  if (pc.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState === "complete") {
        clearTimeout(timer);
        resolve();
      }
    });
  });
}

/** Candidates found after the offer went out (RFC 9725, section 4.3). */
function trickle(peer, candidates) {
  if (!peer.location) return;
  const sdp = peer.pc.localDescription.sdp;
  const lines = ["ice-ufrag", "ice-pwd"].map((name) => `a=${name}:${new RegExp(`^a=${name}:(.*)$`, "m").exec(sdp)[1].trim()}`);
  lines.push(/^m=.*$/m.exec(sdp)[0].trim(), `a=mid:${/^a=mid:(.*)$/m.exec(sdp)[1].trim()}`);
  for (const candidate of candidates) lines.push(`a=${candidate.candidate}`);
  if (!candidates.length) lines.push("a=end-of-candidates");
  fetch(peer.location, {
    method: "PATCH",
    headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": peer.etag || "*" },
    body: `${lines.join("\r\n")}\r\n`,
  }).catch(() => {});
}

/** ``Link`` headers (RFC 8288) as objects with url, rel and the other parameters. */
export function readLinks(header) {
  const links = [];
  for (const [, url, rest] of (header || "").matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+(?:=(?:"[^"]*"|[^",;]*))?)*)/g)) {
    const link = { url };
    for (const [, name, quoted, bare] of rest.matchAll(/;\s*([\w-]+)(?:=(?:"([^"]*)"|([^",;]*)))?/g)) {
      link[name.toLowerCase()] = quoted ?? (bare || "").trim();
    }
    links.push(link);
  }
  return links;
}

function iceServer(link) {
  const server = { urls: link.url };
  if (link.username) Object.assign(server, { username: link.username, credential: link.credential });
  return server;
}

/**
 * Keep a connection: open it, and again with growing pauses when it breaks, until ``signal`` aborts.
 *
 * ``open`` gives a Peer; ``up(peer)`` and ``down()`` tell what becomes of it; ``pause(error, waitMs)`` says why
 * and for how long it waits, and false ends it; it may give a promise that settles when the wait is to be cut short.
 */
export async function keep({ open, up, down, pause, signal }) {
  let failures = 0;
  while (!signal.aborted) {
    let why;
    try {
      const peer = await open(signal);
      const first = await Promise.race([peer.connected.then(() => null), peer.broken]);
      if (first === null) {
        failures = 0;
        await up(peer);
        const reason = await peer.broken;
        why = reason instanceof Failure ? reason : new Error(reason);
        if (!signal.aborted) down();
      } else {
        why = new Error(first);
      }
      peer.close();
    } catch (error) {
      why = error;
    }
    if (signal.aborted) return;
    const base = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
    failures += 1;
    const waitMs = why.retryAfterS ? why.retryAfterS * 1000 : base * (0.8 + 0.4 * Math.random());
    const sooner = pause(why, waitMs);
    if (sooner === false) return;
    await rest(waitMs, signal, sooner);
  }
}

/** Wait, or less when the signal aborts or ``sooner`` settles. */
export function rest(ms, signal, sooner) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", done, { once: true });
    if (sooner instanceof Promise) sooner.then(done);
  });
}
