"""FrameDenoiser in a sounddevice callback: python examples/callback.py [SECONDS [IN OUT]].

IN and OUT are names of devices, as `rtden devices` lists them.

`rtden.open_live` is better for everyday use: it works in a thread of its own, follows two clocks
and waits for devices that are unplugged.
"""

import sys
import time

import numpy as np
import sounddevice

from rtden import FrameDenoiser

RATE_HZ, FRAME = 48_000, 480  # 10 ms
denoiser = FrameDenoiser(rate_hz=RATE_HZ)


def clean(samples: np.ndarray, out: np.ndarray, frames: int, when: object, flags: object) -> None:
    """Play a block of the microphone without noise."""
    out[:, 0] = denoiser.process(samples[:, 0].copy())


seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
with sounddevice.Stream(
    samplerate=RATE_HZ,
    blocksize=FRAME,
    device=tuple(sys.argv[2:4]) or None,
    channels=1,
    dtype="float32",
    callback=clean,
) as stream:
    devices_ms = 1000 * sum(stream.latency)
    print(f"delay {devices_ms:.0f} ms in the devices + {denoiser.latency_ms:.0f} ms in rtden")
    time.sleep(seconds)
