// Measures the delay browser -> reenact -> browser with a code in the pixels; injected before the page's own scripts run.
//
// The page gets a canvas as its camera: the real camera's picture with the code of realtime/core/pixelcode.py on top,
// drawn for each of its frames. The daemon copies the code (--relay-code), and it is read from each picture that comes
// back. Both times are from this page's performance.now(), so no clocks have to be compared.

(() => {
  const [COLUMNS, ROWS, ACROSS, SAMPLES] = [20, 8, 48, 8];
  const [BLACK, WHITE] = ["rgb(16,16,16)", "rgb(235,235,235)"];
  const measured = { drawn: 0, presented: 0, unread: 0, ages: [], counters: [], received: [] };
  window.reenactLatency = measured;

  const nowUs = () => Math.floor(performance.now() * 1000) % 2 ** 32;

  function crc16(bytes) {
    let crc = 0xffff;
    for (const byte of bytes) {
      crc ^= byte << 8;
      for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
    }
    return crc;
  }

  const isWhiteRing = (row, column) => row === 0 || column === 0 || row === ROWS - 1 || column === COLUMNS - 1;
  const isBlackRing = (row, column) => !isWhiteRing(row, column) && (row === 1 || column === 1 || row === ROWS - 2 || column === COLUMNS - 2);

  function encode(counter, timeUs) {
    const message = new Uint8Array(8);
    const view = new DataView(message.buffer);
    view.setUint16(0, counter % 65536);
    view.setUint32(2, timeUs);
    view.setUint16(6, crc16(message.subarray(0, 6)));
    return message;
  }

  function draw(context, width, height, message) {
    const side = Math.min(width, height) / ACROSS;
    const edge = (index) => Math.floor(index * side + 0.5);
    for (let row = 0; row < ROWS; row += 1) {
      for (let column = 0; column < COLUMNS; column += 1) {
        const bit = (row - 2) * 16 + column - 2;
        const white = isWhiteRing(row, column) || (!isBlackRing(row, column) && (message[bit >> 3] >> (7 - (bit & 7))) & 1);
        context.fillStyle = white ? WHITE : BLACK;
        context.fillRect(edge(column), edge(row), edge(column + 1) - edge(column), edge(row + 1) - edge(row));
      }
    }
  }

  /** Mean brightness of the middle half of each cell, from a copy that has SAMPLES pixels per cell. */
  function levels(pixels) {
    const quarter = SAMPLES / 4;
    const found = new Float64Array(ROWS * COLUMNS);
    for (let row = 0; row < ROWS; row += 1) {
      for (let column = 0; column < COLUMNS; column += 1) {
        let total = 0;
        for (let y = row * SAMPLES + quarter; y < (row + 1) * SAMPLES - quarter; y += 1) {
          for (let x = column * SAMPLES + quarter; x < (column + 1) * SAMPLES - quarter; x += 1) {
            const at = 4 * (y * COLUMNS * SAMPLES + x);
            total += 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
          }
        }
        found[row * COLUMNS + column] = total / (SAMPLES - 2 * quarter) ** 2;
      }
    }
    return found;
  }

  /** Return the code in these levels, or null where its checksum or its rings are wrong. */
  function decode(found) {
    let [white, whites, black, blacks] = [0, 0, 0, 0];
    for (let row = 0; row < ROWS; row += 1) {
      for (let column = 0; column < COLUMNS; column += 1) {
        const level = found[row * COLUMNS + column];
        if (isWhiteRing(row, column)) [white, whites] = [white + level, whites + 1];
        else if (isBlackRing(row, column)) [black, blacks] = [black + level, blacks + 1];
      }
    }
    const middle = (white / whites + black / blacks) / 2;
    if (white / whites - black / blacks < 24) return null;
    const message = new Uint8Array(8);
    for (let row = 0; row < ROWS; row += 1) {
      for (let column = 0; column < COLUMNS; column += 1) {
        const on = found[row * COLUMNS + column] > middle;
        if (isWhiteRing(row, column) ? !on : isBlackRing(row, column) && on) return null;
        const bit = (row - 2) * 16 + column - 2;
        if (on && !isWhiteRing(row, column)) message[bit >> 3] |= 1 << (7 - (bit & 7));
      }
    }
    const view = new DataView(message.buffer);
    if (view.getUint16(6) !== crc16(message.subarray(0, 6))) return null;
    return { counter: view.getUint16(0), timeUs: view.getUint32(2) };
  }

  const reader = new OffscreenCanvas(COLUMNS * SAMPLES, ROWS * SAMPLES).getContext("2d", { willReadFrequently: true });

  function read(video) {
    const side = Math.min(video.videoWidth, video.videoHeight) / ACROSS;
    reader.drawImage(video, 0, 0, COLUMNS * side, ROWS * side, 0, 0, COLUMNS * SAMPLES, ROWS * SAMPLES);
    return decode(levels(reader.getImageData(0, 0, COLUMNS * SAMPLES, ROWS * SAMPLES).data));
  }

  /** Read the code in every picture that a video presents. */
  function observe(video) {
    let last = -1;
    const each = (_, metadata) => {
      const readUs = nowUs();
      measured.presented += 1;
      const code = read(video);
      if (code === null) measured.unread += 1;
      else if (code.counter !== last) {
        last = code.counter;
        const ageMs = ((readUs - code.timeUs + 2 ** 32) % 2 ** 32) / 1000;
        measured.ages.push(ageMs);
        measured.counters.push(code.counter);
        // from the arrival of its last packet to here
        measured.received.push(metadata.receiveTime === undefined ? null : readUs / 1000 - metadata.receiveTime);
      }
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  }

  /** Return a stream of the camera's picture with the code on top. */
  async function withCode(stream) {
    const video = document.createElement("video");
    Object.assign(video, { srcObject: stream, muted: true });
    await video.play();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const out = canvas.captureStream(0);
    const [track] = out.getVideoTracks();
    const each = () => {
      context.drawImage(video, 0, 0);
      draw(context, canvas.width, canvas.height, encode(measured.drawn, nowUs()));
      measured.drawn += 1;
      track.requestFrame();
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
    track.addEventListener("ended", () => stream.getTracks().forEach((one) => one.stop()));
    return out;
  }

  // every connection of the page, for its getStats()
  const connections = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...given) {
      super(...given);
      connections.push(this);
    }
  };

  /** Return the getStats() entries of sent and received video by type. */
  async function stats() {
    const found = {};
    for (const connection of connections.filter((one) => one.connectionState === "connected")) {
      for (const each of (await connection.getStats()).values()) {
        const wanted = (each.type === "inbound-rtp" || each.type === "outbound-rtp") && each.kind === "video";
        if (wanted) found[each.type] = { ...each };
      }
    }
    return found;
  }

  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => (wanted.video ? withCode(await open(wanted)) : open(wanted));
  addEventListener("DOMContentLoaded", () => {
    const video = document.getElementById("result");
    if (video) observe(video);
  });
  Object.assign(measured, { encode, decode, crc16, read, stats });
})();
