// Measures sound against picture from browser to browser; injected before the page's own scripts run, beside chromium.js.
//
// The publisher's microphone clicks at each multiple of 500 ms of its page's performance.now(), by which the codes in its
// pictures count too. The viewer notes which code is shown when, and when each click is played.

(() => {
  const PERIOD_S = 0.5;
  const noted = { shown: [], claps: [], microphone: false };
  window.reenactSound = noted;

  /** Return a function that gives the page's time (s) of a context's time: the least delay seen of each quantum counts. */
  function clockOf(context) {
    let offset = Infinity;
    const sample = () => {
      if (context.currentTime > 0) offset = Math.min(offset + 2e-6, performance.now() / 1000 - context.currentTime);
    };
    setInterval(sample, 5);
    return (contextTime) => contextTime + offset;
  }

  /** Return a stream of clicks, in place of a microphone's. */
  async function clicks() {
    const context = new AudioContext({ sampleRate: 48000 });
    await context.resume();
    const out = context.createMediaStreamDestination();
    const toPage = clockOf(context);
    const click = context.createBuffer(1, 384, 48000);
    click.getChannelData(0).forEach((_, at, all) => { all[at] = 0.6 * Math.cos((2 * Math.PI * 1000 * at) / 48000); });
    let next = 0;
    setInterval(() => {
      const offset = toPage(0);
      if (!Number.isFinite(offset)) return;
      next = Math.max(next, Math.ceil((performance.now() / 1000 + 0.1) / PERIOD_S) * PERIOD_S);
      while (next < performance.now() / 1000 + 0.7) {
        const node = context.createBufferSource();
        node.buffer = click;
        node.connect(out);
        node.start(next - offset);
        next += PERIOD_S;
      }
    }, 100);
    noted.microphone = true;
    return out.stream;
  }

  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (wanted) => (wanted.audio ? clicks() : open(wanted));

  const WORKLET = `registerProcessor("claps", class extends AudioWorkletProcessor {
    until = 0;
    process([[samples]]) {
      for (let at = 0; samples && at < samples.length; at += 1) {
        const time = (currentFrame + at) / sampleRate;
        if (Math.abs(samples[at]) > 0.1 && time > this.until) {
          this.until = time + 0.25;
          this.port.postMessage(time);
        }
      }
      return true;
    }
  });`;

  /** Note the clicks in a stream, and the codes that its video shows. */
  window.reenactHear = async (video) => {
    const context = new AudioContext({ sampleRate: 48000 });
    await context.resume();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" })));
    const toPage = clockOf(context);
    const node = new AudioWorkletNode(context, "claps");
    node.port.onmessage = ({ data }) => noted.claps.push(1000 * toPage(data));
    context.createMediaStreamSource(video.srcObject).connect(node).connect(context.destination);
    const each = (_, metadata) => {
      const code = window.reenactLatency.read(video);
      if (code) noted.shown.push([metadata.expectedDisplayTime, code.timeUs / 1000]);
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  };
})();
