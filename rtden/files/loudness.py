"""Integrated loudness (EBU R 128) by FFmpeg's meter, in constant memory (extra "av")."""

from __future__ import annotations

import numpy as np

from rtden.extras import needed
from rtden.files.muxers import frame_of, usual_layout
from rtden.types import Array

SILENCE_LUFS = -70.0  # the gate: nothing below it is measured
HIGHEST_PEAK = 10.0 ** (-1.0 / 20.0)


class LoudnessMeter:
    """The loudness of a signal of any length."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._av = needed("av", "av", "loudness")
        self._rate_hz, self._layout, self._samples = rate_hz, usual_layout(channels), 0
        self._graph = self._av.filter.Graph()
        source = self._graph.add_abuffer(sample_rate=rate_hz, format="flt", layout=self._layout)
        self._graph.link_nodes(
            source,
            self._graph.add("ebur128", "metadata=1:framelog=quiet"),
            self._graph.add("abuffersink"),
        ).configure()
        self.lufs = SILENCE_LUFS
        """Integrated loudness so far, complete after :meth:`end`."""
        self.peak = 0.0

    def add(self, block: Array) -> None:
        """Take in samples, shape (samples, channels)."""
        if not len(block):
            return
        self.peak = max(self.peak, float(np.abs(block).max()))
        self._push(frame_of(block, self._layout, self._rate_hz, self._samples))
        self._samples += len(block)

    def end(self) -> None:
        """End the signal."""
        self._push(None)

    def _push(self, frame: object) -> None:
        self._graph.push(frame)
        try:
            while True:
                measured = self._graph.pull().metadata
                self.lufs = float(measured.get("lavfi.r128.I", self.lufs))
        except (self._av.error.BlockingIOError, self._av.error.EOFError):  # it wants more
            return


def gain_for(meter: LoudnessMeter, lufs: float, notes: list[str]) -> float:
    """Return the gain (linear) to a loudness, less where peaks would pass -1 dBFS; then a note."""
    if meter.lufs <= SILENCE_LUFS:
        return 1.0
    gain = 10.0 ** ((lufs - meter.lufs) / 20.0)
    if gain * meter.peak > HIGHEST_PEAK:
        gain = HIGHEST_PEAK / meter.peak
        reached = meter.lufs + 20.0 * np.log10(gain)
        notes.append(f"{reached:.1f} LUFS; its peaks would be clipped at {lufs:g} LUFS")
    return float(gain)
