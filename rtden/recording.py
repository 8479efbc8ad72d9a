"""A whole recording: its beginning is fed twice, so that its noise is known from the start."""

from __future__ import annotations

import numpy as np

from rtden.stream import StreamDenoiser
from rtden.types import Array

LEAD_IN_SECONDS = 2.0
"""A recording's beginning, fed once before it. `python bench/latency.py --pairs FOLDER` shows what
it gains: the row "files" against the row of the same overlap."""
BACKWARDS_SECONDS = 0.25
"""Then this much of the beginning backwards. So the lead-in ends with the sound that follows it,
and nothing from two seconds later leaks into the first frames."""
RECORDING_STEPS = 64
"""Steps computed together, at most, for whole recordings."""


def lead_in(head: Array, rate_hz: int) -> Array:
    """Return what is fed before a recording that begins with `head`, of two seconds or more."""
    forwards, backwards = (
        round(seconds * rate_hz) for seconds in (LEAD_IN_SECONDS, BACKWARDS_SECONDS)
    )
    return np.concatenate([head[:forwards], head[:backwards][::-1]])


class RecordingDenoiser:
    """Denoises a whole recording, block by block, after its first two seconds have been fed once.

    A stream does not know the noise at first, and lets it through for some time. A file needs no
    haste: what comes out for the lead-in is dropped. A shorter recording is its own lead-in.

    Parameters
    ----------
    stream : StreamDenoiser
        A new one.
    """

    def __init__(self, stream: StreamDenoiser) -> None:
        self._stream = stream
        self._held: list[Array] | None = []  # None once the recording has begun
        self._to_drop = 0

    def feed(self, block: Array) -> Array:
        """Take samples, shape (samples, channels); return those that are ready.

        The output is aligned with the input. It begins when the lead-in is complete; until then the
        caller must leave its blocks as they are.
        """
        if self._held is None:
            return self._kept(self._stream.feed(block))
        self._held.append(block)
        complete = sum(map(len, self._held)) >= LEAD_IN_SECONDS * self._stream.rate_hz
        return self._begin(self._held) if complete else block[:0]

    def flush(self) -> Array:
        """End the recording: return the samples that are still to come."""
        begun = [self._begin(self._held)] if self._held else []
        return np.concatenate([*begun, self._kept(self._stream.flush())])

    def _begin(self, held: list[Array]) -> Array:
        """Feed the lead-in and what is held."""
        head, self._held = np.concatenate(held), None
        before = lead_in(head, self._stream.rate_hz)
        self._to_drop = len(before)
        ready = [self._stream.feed(before), self._stream.feed(head)]
        return self._kept(np.concatenate(ready))

    def _kept(self, out: Array) -> Array:
        """Return output without the lead-in's."""
        dropped = min(self._to_drop, len(out))
        self._to_drop -= dropped
        return out[dropped:]
