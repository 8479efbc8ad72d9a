"""A whole recording: two passes, each with a lead-in and from both ends.

Its beginning is fed twice, so that its noise is known from the start.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rtden.backward import BackwardMasks
from rtden.settings import gain_floor
from rtden.stream import StreamDenoiser
from rtden.types import Array

FIRST_STRENGTH = 0.7
"""Wet share of the first pass. With more, the second pass has too little of the input, and PESQ-WB
falls."""
LEAD_IN_SECONDS = 2.0
"""A recording's beginning, fed once before it. `python bench/latency.py --pairs FOLDER` shows what
all of this gains: the row "files" against the row of the same overlap."""
BACKWARDS_SECONDS = 0.25
"""Part of the beginning that follows, reversed. So the lead-in ends with the first sample of the
recording, and no sound from two seconds later leaks into the first frames."""


def lead_in(head: Array, rate_hz: int) -> Array:
    """Return the lead-in of a recording that begins with `head`."""
    forwards, backwards = (
        round(seconds * rate_hz) for seconds in (LEAD_IN_SECONDS, BACKWARDS_SECONDS)
    )
    return np.concatenate([head[:forwards], head[:backwards][::-1]])


class RecordingDenoiser:
    """Denoises a whole recording, block by block.

    A stream does not know the noise at first and passes it for some time. So the first two seconds
    of a recording (or all of a shorter one) are fed once before it, and their output is dropped.
    The network also works from the end (:mod:`rtden.backward`). Both are done in two passes: the
    output of the first, mixed with the input, is the input of the second, which separates the rest
    of the noise better. `stream` is a new one; its strength and limit hold for the whole.
    """

    def __init__(self, stream: StreamDenoiser) -> None:
        self._stream, self._strength = stream, np.float32(stream.strength)
        limit_db, stream.strength = stream.limit_db, 1.0
        self._passes = [_Pass(stream)]
        # Of a network that takes whole windows, two passes are worse (seed: OVRL -0.07, 15 pairs).
        if stream.denoisers[0].network.stateful:
            settings = dataclasses.replace(
                stream.denoisers[0].settings, strength=FIRST_STRENGTH, limit_db=limit_db
            )
            self._passes.insert(0, _Pass(stream.another(settings)))
            kept = FIRST_STRENGTH * gain_floor(limit_db) + 1.0 - FIRST_STRENGTH
            stream.limit_db = max(0.0, limit_db + 20.0 * math.log10(kept))
        self._input = np.empty((0, stream.channels), np.float32)

    def feed(self, block: Array) -> Array:
        """Take samples, shape (samples, channels); return those that are ready.

        The output is aligned with the input. It begins when the lead-in is complete; until then the
        caller must leave its blocks as they are.
        """
        block = self._stream.checked(block)
        if self._strength < 1.0:
            self._input = np.concatenate([self._input, block])
        for each in self._passes:
            block = each.feed(block)
        return self._mixed(block)

    def flush(self) -> Array:
        """End the recording: return the samples that are still to come."""
        rest = self._input[:0]
        for each in self._passes:
            rest = np.concatenate([each.feed(rest), each.flush()])
        return self._mixed(rest)

    def _mixed(self, out: Array) -> Array:
        """Return the denoised sound with the dry share of the input."""
        if self._strength == 1.0:
            return out
        dry, self._input = self._input[: len(out)], self._input[len(out) :]
        mixed: Array = self._strength * out + (np.float32(1.0) - self._strength) * dry
        return mixed


class _Pass:
    """One pass over a recording: a stream behind a lead-in, with the masks from the other end."""

    def __init__(self, stream: StreamDenoiser) -> None:
        self._stream = stream
        # A network that takes whole windows has no memory that the other direction could add to.
        stateful = stream.denoisers[0].network.stateful
        self._backward = BackwardMasks(stream) if stateful else None
        self._held: list[Array] | None = []  # None once the recording has begun
        self._to_drop = 0
        self._end = np.empty((0, stream.channels), np.float32)

    def feed(self, block: Array) -> Array:
        if self._held is None:
            return self._run(block)
        self._held.append(block)
        complete = sum(map(len, self._held)) >= LEAD_IN_SECONDS * self._stream.rate_hz
        return self._begin(self._held) if complete else block[:0]

    def flush(self) -> Array:
        parts = [self._begin(self._held)] if self._held else []
        if self._backward is not None and self._held is None:
            # The lead-in from the end.
            tail = lead_in(self._end[::-1], self._stream.rate_hz)[::-1]
            parts.append(self._kept(self._stream.feed(self._backward.flush(tail))))
        return np.concatenate([*parts, self._kept(self._stream.flush())])

    def _begin(self, held: list[Array]) -> Array:
        """Feed the lead-in and the samples held so far."""
        head, self._held = np.concatenate(held), None
        before = lead_in(head, self._stream.rate_hz)
        self._to_drop = len(before)
        return np.concatenate([self._run(before), self._run(head)])

    def _run(self, block: Array) -> Array:
        if self._backward is not None:
            last = round(LEAD_IN_SECONDS * self._stream.rate_hz)
            self._end = np.concatenate([self._end, block])[-last:]
            block = self._backward.feed(block)
        return self._kept(self._stream.feed(block))

    def _kept(self, out: Array) -> Array:
        """Return output without the lead-in's."""
        dropped = min(self._to_drop, len(out))
        self._to_drop -= dropped
        return out[dropped:]
