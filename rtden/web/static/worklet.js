// Sends the microphone as 16-bit blocks of 10 ms and plays what comes back, at a steady delay.
class ThroughRtden extends AudioWorkletProcessor {
  constructor() {
    super();
    [this.block, this.filled] = [new Int16Array(Math.round(sampleRate / 100)), 0];
    [this.waiting, this.playing] = [[], false];
    this.port.onmessage = ({ data }) => {
      for (const sample of new Int16Array(data)) this.waiting.push(sample / 32768);
    };
  }

  process([[microphone]], [[output]]) {
    for (const sample of microphone ?? []) {
      this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled < this.block.length) continue;
      this.port.postMessage(this.block.slice().buffer);
      this.filled = 0;
    }
    const held = this.waiting.length / sampleRate;
    if (held > 0.3) this.waiting.splice(0, (held - 0.1) * sampleRate); // never later and later
    if (held >= 0.04) this.playing = true; // bridges the network's unevenness
    if (this.waiting.length < output.length) this.playing = false;
    if (this.playing) output.set(this.waiting.splice(0, output.length));
    return true;
  }
}
registerProcessor("through-rtden", ThroughRtden);
