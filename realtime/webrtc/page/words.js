// What the page says when something is wrong: what happened, and what to do about it.

/** @param {unknown} error what getUserMedia threw */
export function cameraTrouble(error) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    return {
      kind: "insecure",
      title: "The browser keeps the camera from this page",
      text: "Browsers give the camera only to pages on this computer or over HTTPS. Open reenact at its own computer, or serve it through HTTPS.",
    };
  }
  switch (error && error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return {
        kind: "refused",
        title: "The camera is not allowed",
        text: "Allow it with the camera symbol in the address bar, or in the browser's settings for this page. Then try again.",
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return {
        kind: "absent",
        title: "No camera found",
        text: "Plug one in or switch it on; it is taken as soon as it is there.",
      };
    case "NotReadableError":
    case "AbortError":
      return {
        kind: "busy",
        title: "The camera is busy",
        text: "Another program or tab seems to use it. Close that one, or choose another camera, and try again.",
      };
    default:
      return {
        kind: "other",
        title: "The camera does not open",
        text: `The browser says: ${(error && error.message) || error}. Choose another camera, or try again.`,
      };
  }
}

/** @param {{status: number, problem: ?{found: string, expected: string, cure: string}}} refusal */
export function serverTrouble(refusal) {
  if (refusal.status === 401) {
    return { kind: "token", title: "This server asks for its token", text: "Sign in with the token reenact was started with." };
  }
  if (refusal.status === 403) {
    return {
      kind: "place",
      title: "The server does not accept this address",
      text: "Open the page at the address that reenact printed when it started.",
    };
  }
  return { kind: "refusal", title: "That did not work", text: problemText(refusal.problem) || `The server answered ${refusal.status}.` };
}

/** One sentence or two out of an error's found, expected and cure. */
export function problemText(problem) {
  if (!problem) return "";
  const found = sentence(problem.expected ? `${problem.found}; expected: ${problem.expected}` : problem.found);
  return `${found} ${sentence(problem.cure || "")}`.trim();
}

function sentence(text) {
  if (!text) return "";
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** What a run's source is, for a person; ``source`` is what the daemon calls it. */
export function sourceName(source) {
  if (!source || /performer/i.test(source)) return "the performer, a rendered face";
  return source;
}

/** Who gets to see a picture that is added in this mode, and for how long. */
export function whosePortraits(mode) {
  return mode === "main"
    ? "It is put on for everybody who sees this portrait, and stays until reenact ends."
    : "It is yours alone, and gone when you leave.";
}

export const FACE = {
  found: "",
  starting: "Getting ready",
  lost: "No face found: look at the camera, with light from the front",
  "camera lost": "The camera's picture has stopped",
};
