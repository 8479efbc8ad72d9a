"""Sound that breaks off fades out, sound that begins or jumps fades in: no click is louder than a short fade."""

from __future__ import annotations

import numpy as np

from rtden.ring import Ring
from rtden.types import Array

FADE_SECONDS = 0.004
NOTHING_SEEN = 2**62
"""Of :attr:`SmoothReader.least_left_samples`, before the first block."""


def fade_in(block: Array, last: Array, rate_hz: int) -> None:
    """Let the step from the sample before, shape (channels,), to a block, shape (samples, channels), decay within 4 ms, in place."""
    if len(block):
        fade = _fade(rate_hz)[: len(block)]
        block[: len(fade)] += fade * (last - block[0])


def _fade(rate_hz: int) -> Array:
    falling: Array = np.square(
        np.cos(
            np.linspace(
                0.0,
                np.pi / 2,
                max(1, round(FADE_SECONDS * rate_hz)),
                endpoint=False,
                dtype=np.float32,
            )
        )
    )[:, None]
    return falling


class SmoothReader:
    """Reads a ring block by block for a player; runs in its callback, so that it neither allocates arrays nor takes a lock.

    Where the ring runs dry, the last sample's value decays to zero; where sound begins again, or goes on at another place
    because some was dropped, the step between the last sample and the next decays within 4 ms.

    Parameters
    ----------
    ring : Ring
    channels : int
        Of the player. A ring of one channel goes to all of them; of one with more, channel for channel, the rest are silent.
    rate_hz : int
    """

    def __init__(self, ring: Ring, channels: int, rate_hz: int) -> None:
        self._ring = ring
        self._fade = _fade(rate_hz)[:, 0]
        self._scratch = np.zeros(len(self._fade), np.float32)
        self._last = np.zeros(channels, np.float32)
        self._step = np.zeros(channels, np.float32)
        self._faded = len(self._fade)  # how far into the fade the last block went
        self._lost_samples = 0
        self._dry = True
        self._channels = channels
        self.least_left_samples = NOTHING_SEEN
        """The least that was left in the ring after a block, since this was last set."""

    def read_into(self, block: Array) -> None:
        """Fill a block, shape (samples, channels)."""
        ring, wanted = self._ring, len(block)
        if ring.channels in (1, self._channels):
            got = ring.read_into(block)
        else:
            block[:, ring.channels :] = 0.0
            got = ring.read_into(block[:, : ring.channels])
        block[got:] = 0.0
        jumped = ring.lost_samples != self._lost_samples
        self._lost_samples = ring.lost_samples
        if got and (jumped or self._dry):
            np.subtract(self._last, block[0], out=self._step)
            self._decay(block, 0, wanted, start=0)
        else:  # a block may be shorter than a fade, which then goes on in the next
            self._decay(block, 0, wanted, start=self._faded)
        if got < wanted and (got or not self._dry):
            np.copyto(self._step, block[got - 1] if got else self._last)
            block[got:] = 0.0
            self._decay(block, got, wanted - got, start=0)
        self._dry = got < wanted
        np.copyto(self._last, block[wanted - 1])
        left = ring.fill_samples
        self.least_left_samples = min(left, self.least_left_samples)

    def _decay(self, block: Array, at: int, room: int, *, start: int) -> None:
        samples = min(room, len(self._fade) - start)
        self._faded = start + samples
        for channel in range(
            self._channels
        ):  # one at a time: numpy would make buffers to broadcast
            np.multiply(
                self._fade[start : self._faded], self._step[channel], out=self._scratch[:samples]
            )
            np.add(
                block[at : at + samples, channel],
                self._scratch[:samples],
                out=block[at : at + samples, channel],
            )
