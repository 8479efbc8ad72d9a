"""Clean frames of a voice agent: python examples/voice_agent.py < noisy.raw > clean.raw.

Sound is 16-bit PCM, 16 kHz, mono, as voice agents exchange it.
"""

import sys
from collections.abc import Iterable, Iterator

from rtden import FrameDenoiser

FRAME_BYTES = 640  # 20 ms


def cleaned_frames(microphone: Iterable[bytes], rate_hz: int = 16_000) -> Iterator[bytes]:
    """Yield a clean frame for each noisy one, delayed by the denoiser's `latency_ms`."""
    with FrameDenoiser(rate_hz=rate_hz) as denoiser:
        for pcm in microphone:
            yield denoiser.process(pcm)


if __name__ == "__main__":
    frames = iter(lambda: sys.stdin.buffer.read(FRAME_BYTES), b"")
    for frame in cleaned_frames(frames):
        sys.stdout.buffer.write(frame)
        sys.stdout.buffer.flush()
