"""A whole recording: its beginning is fed twice, so that its noise is known from the start."""

from __future__ import annotations

import numpy as np

from rtden.backward import BackwardMasks
from rtden.harmonics import HarmonicFilter
from rtden.stream import StreamDenoiser
from rtden.types import Array

LEAD_IN_SECONDS = 2.0
"""A recording's beginning, fed once before it. `python bench/latency.py --pairs FOLDER` shows what
it gains: the row "files" against the row of the same overlap."""
BACKWARDS_SECONDS = 0.25
"""Then this much of the beginning backwards. So the lead-in ends with the sound that follows it,
and nothing from two seconds later leaks into the first frames."""


def lead_in(head: Array, rate_hz: int) -> Array:
    """Return what is fed before a recording that begins with `head`, of two seconds or more."""
    forwards, backwards = (
        round(seconds * rate_hz) for seconds in (LEAD_IN_SECONDS, BACKWARDS_SECONDS)
    )
    return np.concatenate([head[:forwards], head[:backwards][::-1]])


class RecordingDenoiser:
    """Denoises a whole recording, block by block.

    A stream does not know the noise at first, and lets it through for some time. A file needs no
    haste: its first two seconds are fed once before it, and what comes out for them is dropped. A
    shorter recording is its own lead-in. A second pass starts from the end (:mod:`rtden.backward`).
    Last, a comb filter takes out noise that is left between harmonics (:mod:`rtden.harmonics`).

    Parameters
    ----------
    stream : StreamDenoiser
        A new one.
    """

    def __init__(self, stream: StreamDenoiser) -> None:
        self._stream = stream
        # A network that takes whole windows has no memory that the other direction could add to.
        stateful = stream.denoisers[0].network.stateful
        self._backward = BackwardMasks(stream) if stateful else None
        self._held: list[Array] | None = []  # None once the recording has begun
        self._harmonics = HarmonicFilter(stream)
        self._to_drop = 0
        self._end = np.empty((0, stream.channels), np.float32)

    def feed(self, block: Array) -> Array:
        """Take samples, shape (samples, channels); return those that are ready.

        The output is aligned with the input. It begins when the lead-in is complete; until then the
        caller must leave its blocks as they are.
        """
        block = self._stream.checked(block)
        if self._held is None:
            self._harmonics.hold(block)
            return self._run(block)
        self._held.append(block)
        complete = sum(map(len, self._held)) >= LEAD_IN_SECONDS * self._stream.rate_hz
        return self._begin(self._held) if complete else block[:0]

    def flush(self) -> Array:
        """End the recording: return the samples that are still to come."""
        parts = [self._begin(self._held)] if self._held else []
        if self._backward is not None and self._held is None:
            # The lead-in of the pass from the end.
            tail = lead_in(self._end[::-1], self._stream.rate_hz)[::-1]
            parts.append(self._kept(self._stream.feed(self._backward.flush(tail))))
        last = self._kept(self._stream.flush())
        return np.concatenate([*parts, last, self._harmonics.flush()])

    def _begin(self, held: list[Array]) -> Array:
        """Feed the lead-in and what is held."""
        head, self._held = np.concatenate(held), None
        before = lead_in(head, self._stream.rate_hz)
        self._to_drop = len(before)
        self._harmonics.hold(head)
        return np.concatenate([self._run(before), self._run(head)])

    def _run(self, block: Array) -> Array:
        if self._backward is not None:
            last = round(LEAD_IN_SECONDS * self._stream.rate_hz)
            self._end = np.concatenate([self._end, block])[-last:]
            block = self._backward.feed(block)
        return self._kept(self._stream.feed(block))

    def _kept(self, out: Array) -> Array:
        """Return output without the lead-in's, and with less noise between harmonics."""
        dropped = min(self._to_drop, len(out))
        self._to_drop -= dropped
        return self._harmonics.feed(out[dropped:])
