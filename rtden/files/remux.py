"""A video comes back as a video: its sound is denoised, every other stream copied packet by packet.

PyAV (extra "av") does it; its wheel has FFmpeg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtden.errors import AudioFileError
from rtden.files.atomic import reason_of
from rtden.files.audio_file import LOUDEST, Progress
from rtden.files.listing import Raw
from rtden.files.media import (
    frames_of,
    opened,
    samples_of,
    seconds_of,
    states_length,
    tracks_of,
)
from rtden.files.muxers import MUXERS, Muxer, add_encoder, layout_of, muxer_options, padding_of
from rtden.files.sndfile import truncated
from rtden.stream import StreamDenoiser
from rtden.types import Array

ATTACHED_PICTURE = 0x400
"""FFmpeg's disposition of a cover."""
STALE = ("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION", "ENCODER")
"""Matroska's figures of a sound track, which are another's after it is encoded anew."""
MOST_GAP_SECONDS = 0.03
"""Longer gaps in the sound's time stamps become silence, so that lips stay in step."""
Streams = Callable[[int, int], StreamDenoiser]
"""Takes a rate in Hz and a number of channels."""


class _Sound:
    """A sound track between its decoder and its encoder."""

    def __init__(
        self, source: Any, target: Any, streams: Streams, path: Path, padding: int
    ) -> None:
        context = source.codec_context
        self.source, self._target, self._path = source, target, path
        self.rate_hz, self._channels = context.sample_rate, context.channels
        self._layout = layout_of(context)
        self._stream = streams(self.rate_hz, self._channels)
        self._start: int | None = None
        self.fed = self._written = 0
        self._dropped = padding  # in place of what the encoder puts before the sound

    def feed(self, frame: Any) -> Iterator[Any]:
        """Take in a decoded frame; yield encoded packets."""
        samples = samples_of(frame, self._channels, self.rate_hz, self._path)
        samples = np.where(np.abs(samples) < LOUDEST, samples, np.float32(0.0))
        if frame.pts is not None:
            at = round(frame.pts * frame.time_base * self.rate_hz)
            self._start = at if self._start is None else self._start
            gap = at - self._start - self.fed
            while gap > MOST_GAP_SECONDS * self.rate_hz:
                silence = np.zeros((min(gap, self.rate_hz), self._channels), np.float32)
                yield from self._feed(silence)
                gap -= len(silence)
        yield from self._feed(samples)

    def flush(self) -> Iterator[Any]:
        """End the track; yield its last packets."""
        yield from self._encode(self._stream.flush())
        yield from self._target.encode(None)

    @property
    def ended(self) -> float:
        """Seconds from the file's beginning to the track's end."""
        return float(((self._start or 0) + self.fed) / self.rate_hz)

    def _feed(self, samples: Array) -> Iterator[Any]:
        self.fed += len(samples)
        yield from self._encode(self._stream.feed(samples))

    def _encode(self, samples: Array) -> Iterator[Any]:
        import av

        dropped = min(max(0, self._dropped - self._written), len(samples))
        self._written, samples = self._written + dropped, samples[dropped:]
        if len(samples):
            planes = np.ascontiguousarray(samples.T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
            frame.sample_rate, frame.time_base = self.rate_hz, Fraction(1, self.rate_hz)
            frame.pts = (self._start or 0) + self._written
            self._written += len(samples)
            yield from self._target.encode(frame)


class MediaReport(NamedTuple):
    """What was done to a file."""

    seconds: float
    notes: list[str]


def denoise_media(
    source: Path,
    partial: Path,
    suffix: str,
    streams: Streams,
    *,
    raw: Raw | None = None,
    track: int | None = None,
    progress: Progress | None = None,
) -> MediaReport:
    """Write a file with its sound denoised and all other streams copied, in constant memory.

    Parameters
    ----------
    partial : Path
        Where to write.
    suffix : str
        Chooses the container, a key of MUXERS.
    streams : callable
        Gives the stream that denoises a track.
    track : int, optional
        The sound track to denoise, from 1, the others copied; the default is all.

    Raises
    ------
    AudioFileError
        If the file cannot be read, has no sound, or cannot be written.
    """
    notes: list[str] = []
    with opened(source, raw) as (av, container), ExitStack() as stack:
        tracks = tracks_of(container, source, track)
        total = round(seconds_of(container, tracks[0]) * tracks[0].codec_context.sample_rate)
        try:
            out, targets = _start(av, container, tracks, partial, suffix, notes)
            stack.enter_context(_closed_at_last(out))
            sounds = {
                s.index: _Sound(s, target, streams, source, padding_of(target, MUXERS[suffix]))
                for s in tracks
                if (target := targets.get(s.index))
            }
            first = next(iter(sounds.values()))
            _pump(av, container, out, targets, sounds, notes, progress, total)
            out.close()
        except av.error.FFmpegError as error:
            raise AudioFileError(
                f"{source} could not be made into a {suffix} ({reason_of(error)}); make room on "
                "the disk, or choose another format, for instance NAME.mkv or NAME.wav."
            ) from None
    return MediaReport(first.fed / first.rate_hz, notes)


def _pump(
    av: Any,
    container: Any,
    out: Any,
    targets: dict[int, Any],
    sounds: dict[int, _Sound],
    notes: list[str],
    progress: Progress | None,
    total: int,
) -> None:
    """Copy packets, and denoise those of the sounds, until the source ends.

    Raises
    ------
    AudioFileError
        If it ends before it says.
    """
    last = 0.0
    for packet in container.demux([s for s in container.streams if s.index in targets]):
        index = packet.stream.index
        if index in sounds:
            for frame in frames_of(av, packet, notes):
                for encoded in sounds[index].feed(frame):
                    out.mux(encoded)
            if progress is not None:
                progress(next(iter(sounds.values())).fed, total)
        elif packet.dts is not None or packet.size:
            last = max(last, float((packet.pts or 0) * packet.time_base))
            packet.stream = targets[index]
            out.mux(packet)
    for sound in sounds.values():
        for encoded in sound.flush():
            out.mux(encoded)
        last = max(last, sound.ended)
    promised = (container.duration or 0) / 1e6
    whole = all(stream.index in targets for stream in container.streams.video)
    if whole and states_length(container) and last < 0.97 * promised - 1.0:
        raise truncated(Path(container.name), last / promised)


@contextmanager
def _closed_at_last(container: Any) -> Iterator[None]:
    """Close a container whatever happens; after an error its own does not matter."""
    try:
        yield
    finally:
        with suppress(Exception):
            container.close()


def _start(
    av: Any, container: Any, tracks: list[Any], partial: Path, suffix: str, notes: list[str]
) -> tuple[Any, dict[int, Any]]:
    """Open the file to write, with its header; return it and its streams by the source's index.

    What the container does not take is left out, the least important kind of stream first.
    """
    muxer = MUXERS[suffix]
    kinds = ("data", "attachment", "subtitle")
    error: Exception | None = None
    for dropped in range(len(kinds) + 1):
        skipped = {*kinds[:dropped]}
        options = muxer_options(container, muxer, suffix, tracks[0].codec_context.sample_rate)
        out = av.open(str(partial), "w", format=muxer.name, options=options)
        try:
            said: list[str] = []
            same = Path(container.name).suffix.lower() == suffix
            targets = _add_streams(container, out, tracks, muxer, skipped, said, same)
            out.metadata.update(container.metadata)
            with suppress(Exception):
                out.set_chapters(container.chapters())
            out.start_encoding()
        except (av.error.FFmpegError, ValueError, TypeError, RuntimeError) as failure:
            error = failure
            with suppress(Exception):
                out.close()
            continue
        notes += said
        return out, targets
    raise AudioFileError(
        f"a {suffix} does not take this sound ({error}); choose another format, "
        "for instance NAME.m4a or NAME.wav."
    )


def _add_streams(
    container: Any,
    out: Any,
    tracks: list[Any],
    muxer: Muxer,
    skipped: set[str],
    notes: list[str],
    same: bool,
) -> dict[int, Any]:
    """Add the streams to write, in order, and return them by the source's index."""
    targets: dict[int, Any] = {}
    left_out: list[str] = []
    family = muxer.name in container.format.name.split(",")
    for stream in container.streams:
        cover = bool(stream.disposition & ATTACHED_PICTURE)
        made_anew = container.chapters() or "timecode" in stream.metadata
        if stream.type == "data" and family and muxer.name in ("mp4", "mov") and made_anew:
            continue  # chapters and time codes, which are written from their lists
        if stream.type in skipped or (
            muxer.sound_only and stream.type != "audio" and not (cover and muxer.name == "mp4")
        ):
            left_out.append("picture" if stream.type == "video" else stream.type)
            continue
        metadata = dict(stream.metadata)
        if stream in tracks:
            target = add_encoder(out, stream, muxer, notes, same)
            metadata = {k: v for k, v in metadata.items() if not k.upper().startswith(STALE)}
        else:
            try:
                target = out.add_stream_from_template(stream)
            except ValueError:  # FFmpeg has no encoder of that codec, and needs none
                target = out.add_stream_from_template(stream, opaque=True)
            if family and stream.codec_context:
                target.codec_context.codec_tag = stream.codec_context.codec_tag
        target.metadata.update(metadata)
        target.disposition = stream.disposition
        targets[stream.index] = target
    if left_out:
        notes.append(f"left out: {', '.join(dict.fromkeys(left_out))}")
    return targets
