"""Integrated loudness (EBU R 128) by FFmpeg's meter, in constant memory (extra "av")."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from rtden.extras import needed
from rtden.files.muxers import frame_of, usual_layout
from rtden.types import Array

SILENCE_LUFS = -70.0  # the gate: nothing below it is measured
HIGHEST_PEAK = 10.0 ** (-1.0 / 20.0)


def measured(blocks: Iterable[Array], rate_hz: int, channels: int) -> tuple[float, float]:
    """Return the integrated loudness in LUFS and the peak of blocks, shape (samples, channels)."""
    av = needed("av", "av", "loudness")
    graph, layout = av.filter.Graph(), usual_layout(channels)
    source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout=layout)
    meter = graph.add("ebur128", "metadata=1:framelog=quiet")
    graph.link_nodes(source, meter, graph.add("abuffersink")).configure()
    lufs, peak, done = SILENCE_LUFS, 0.0, 0

    def push(frame: object) -> None:
        nonlocal lufs
        graph.push(frame)
        with suppress(av.error.BlockingIOError, av.error.EOFError):  # it wants more
            while True:
                lufs = float(graph.pull().metadata.get("lavfi.r128.I", lufs))

    for block in blocks:
        if len(block):
            peak = max(peak, float(np.abs(block).max()))
            push(frame_of(block, layout, rate_hz, done))
            done += len(block)
    push(None)
    return lufs, peak


def gain_for(measured_lufs: float, peak: float, lufs: float, notes: list[str]) -> float:
    """Return the gain (linear) to a loudness, less where peaks would pass -1 dBFS; then a note."""
    if measured_lufs <= SILENCE_LUFS:
        return 1.0
    gain = 10.0 ** ((lufs - measured_lufs) / 20.0)
    if gain * peak > HIGHEST_PEAK:
        gain = HIGHEST_PEAK / peak
        reached = measured_lufs + 20.0 * np.log10(gain)
        notes.append(f"{reached:.1f} LUFS; its peaks would be clipped at {lufs:g} LUFS")
    return float(gain)
