// Sends the microphone as 16-bit blocks of 10 ms and plays what comes back, at a steady delay.
class ThroughRtden extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate / 100));
    this.filled = this.held = this.at = 0;
    [this.waiting, this.playing] = [[], false];
    this.port.onmessage = ({ data }) => {
      this.waiting.push(new Int16Array(data));
      this.held += data.byteLength / 2;
    };
  }

  process([[microphone]], [output]) {
    for (const sample of microphone ?? []) {
      this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled < this.block.length) continue;
      this.port.postMessage(this.block.slice().buffer);
      this.filled = 0;
    }
    const wanted = output[0].length;
    if (this.held >= sampleRate * 0.04) this.playing = true; // bridges the network's unevenness
    if (this.held < wanted) this.playing = false;
    while (this.held > sampleRate * 0.3) this.drop(); // never later and later
    for (let n = 0; this.playing && n < wanted; n++, this.held--) {
      for (const channel of output) channel[n] = this.waiting[0][this.at] / 32768;
      if (++this.at === this.waiting[0].length) this.drop();
    }
    return true;
  }

  drop() {
    this.held -= this.waiting.shift().length - this.at;
    this.at = 0;
  }
}
registerProcessor("through-rtden", ThroughRtden);
