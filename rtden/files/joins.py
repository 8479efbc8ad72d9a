"""Files that were joined: packets in one course of time, and sound of one rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

from rtden.extras import needed
from rtden.types import Array

CHANGED = "its sound has {} Hz and {} channels from {:.1f} s on: converted to {} Hz and {}"
BROADCASTS = ("mpegts", "mpeg")  # whose time begins anywhere
MOST_BACK_SECONDS = Fraction(1, 4)  # a file's time goes back more where it was joined


def _zero(container: Any) -> Fraction:
    """Return the seconds at which the time of a file begins."""
    is_broadcast = container.format.name in BROADCASTS
    return Fraction(container.start_time or 0, 1_000_000) if is_broadcast else Fraction(0)


def begun(stream: Any) -> Fraction:
    """Return at how many seconds of a file's time a stream begins, as :func:`demuxed` counts."""
    return Fraction((stream.start_time or 0) * stream.time_base - _zero(stream.container))


def demuxed(container: Any) -> Iterator[Any]:
    """Yield a file's packets, in one course of time from zero on where broadcasts were joined.

    Those of streams that begin late are left out: PyAV does not know them. Zeros in a broadcast,
    after which FFmpeg wants to be asked again, are skipped.
    """
    joins = _Joins(_zero(container)) if container.format.name in BROADCASTS else None
    while True:
        with suppress(IndexError, BlockingIOError):
            for packet in container.demux():
                if joins and packet.dts is not None:
                    joins.move(packet)
                yield packet
            return


def converted(
    blocks: Iterator[Array], kind: tuple[int, int], wanted: tuple[int, int], user: str
) -> Iterator[Array]:
    """Yield blocks of one rate in Hz and number of channels as blocks of another, for `user`."""
    av = needed("av", "av", user)
    from rtden.files.muxers import frame_of, usual_layout

    resampler, at = av.AudioResampler("flt", usual_layout(wanted[1]), wanted[0]), 0
    for block in blocks:
        frame = frame_of(block, usual_layout(kind[1]), kind[0], at)
        at += len(block)
        for made in resampler.resample(frame):
            yield made.to_ndarray().reshape(-1, wanted[1])
    for made in resampler.resample(None):
        yield made.to_ndarray().reshape(-1, wanted[1])


class _Joins:
    """Where the time stamps of a file go back: from there on all of them are moved."""

    def __init__(self, start: Fraction) -> None:
        self._moves = [-start]  # seconds, from each join on
        self._passed, self._last, self._ended = Counter[int](), dict[int, Any](), Fraction(0)

    def move(self, packet: Any) -> None:
        """Give a packet its time in the whole file."""
        stream, now = packet.stream.index, packet.dts * packet.time_base
        if now < self._last.get(stream, now) - MOST_BACK_SECONDS:
            # Streams lie side by side: the first that goes back moves all of them.
            self._passed[stream] += 1
            if self._passed[stream] == len(self._moves):
                self._moves.append(self._ended - now)
        self._last[stream] = now
        move = self._moves[self._passed[stream]]
        self._ended = max(self._ended, now + move + (packet.duration or 0) * packet.time_base)
        packet.pts = (packet.pts or 0) + round(move / packet.time_base)
        packet.dts += round(move / packet.time_base)
