// Sends the microphone as 16-bit blocks of 10 ms and plays what comes back, at a steady delay.
class ThroughRtden extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate / 100));
    this.filled = 0;
    this.waiting = [];
    this.held = 0;
    this.at = 0;
    this.playing = false;
    this.port.onmessage = ({ data }) => {
      this.waiting.push(new Int16Array(data));
      this.held += data.byteLength / 2;
    };
  }

  process([[microphone]], [output]) {
    for (const sample of microphone ?? []) {
      this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === this.block.length) {
        const full = this.block.slice();
        this.port.postMessage(full.buffer, [full.buffer]);
        this.filled = 0;
      }
    }
    const wanted = output[0].length, buffered = sampleRate * 0.04;
    if (!this.playing && this.held >= buffered) this.playing = true; // bridges the network's unevenness
    if (this.held < wanted) this.playing = false;
    while (this.held > sampleRate * 0.3) this.drop(); // never later and later
    for (let n = 0; this.playing && n < wanted; n++) {
      const sample = this.waiting[0][this.at++] / 32768;
      for (const channel of output) channel[n] = sample;
      this.held--;
      if (this.at === this.waiting[0].length) { this.waiting.shift(); this.at = 0; }
    }
    return true;
  }

  drop() {
    this.held -= this.waiting.shift().length - this.at;
    this.at = 0;
  }
}
registerProcessor("through-rtden", ThroughRtden);
