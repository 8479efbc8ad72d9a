"""Sound and video that libsndfile does not read, by PyAV (extra "av"), whose wheel has FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError, DamagedFileError, MissingPackageError
from rtden.extras import install_command
from rtden.files.atomic import reason_of
from rtden.files.audio_file import Recording
from rtden.files.layout import changed, truncated
from rtden.files.listing import MEDIA_SUFFIXES, SUFFIXES, Raw
from rtden.samples import to_float
from rtden.types import Array

STRINGS = {
    **{name: name for name in ("title", "artist", "album", "date", "genre", "comment")},
    **{"copyright": "copyright", "track": "tracknumber"},
}
SUBTYPES = {"s32": "PCM_24", "flt": "FLOAT", "dbl": "DOUBLE"}
BIT_RATE_SECONDS = 60.0
LOSSLESS = ("pcm", "alac", "flac", "tta", "wavpack", "ape", "mlp", "truehd")
SLACK_SECONDS = 0.1  # a few frames of a codec
STATES_LENGTH = (
    *("mov", "matroska", "avi", "caf", "wav", "w64", "aiff", "asf", "flv", "tta", "wv"),
)
"""FFmpeg's formats with a length in the header; it guesses others from the size."""


def load_av(what: str) -> Any:
    """Return PyAV; raise MissingPackageError, a sentence about `what` needs it, without it."""
    try:
        import av
    except ImportError:
        sentence = f"{what} takes the package av (PyAV): run '{install_command('av')}'."
        raise MissingPackageError(sentence) from None
    return av


def url_of(path: Path) -> str:
    """Return a path as FFmpeg takes it, which reads 12:30.m4a as a protocol otherwise."""
    return f"file:{path}"


@contextmanager
def opened(path: Path, raw: Raw | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield PyAV and a file that it has opened for reading."""
    av = load_av(str(path))
    options = {"sample_rate": str(raw.rate_hz), "ch_layout": f"{raw.channels}C"} if raw else {}
    try:
        container = av.open(url_of(path), format=raw.format if raw else None, options=options)
    except av.error.FFmpegError as error:
        advice = "for PCM without a header give --rate, --channels and --format."
        if path.suffix.lower() in SUFFIXES | MEDIA_SUFFIXES:
            advice = "it may be damaged or cut off: copy it again."
        raise AudioFileError(
            f"{path} is not sound that can be read ({reason_of(error)}); {advice}"
        ) from None
    with container:
        yield av, container


def tracks_of(container: Any, path: Path, track: int | None) -> list[Any]:
    """Return the sound tracks to denoise: all, or the one that `track` counts, from 1."""
    found = [
        stream
        for stream in container.streams.audio
        if (context := stream.codec_context) and context.sample_rate and context.channels
    ]
    if not found:
        lack = "no sound track" if not container.streams.audio else "no sound that can be decoded"
        raise AudioFileError(f"{path} has {lack}; there is nothing to denoise.")
    if track is None:
        return found
    if not 1 <= track <= len(found):
        raise AudioFileError(f"{path} has no sound track {track}; it has {len(found)}.")
    return [found[track - 1]]


@contextmanager
def open_media(path: Path, *, track: int | None = None) -> Iterator[Recording]:
    """Open a file for reading by PyAV, as :func:`rtden.files.audio_file.open_recording` does."""
    with opened(path) as (av, container):
        stream = tracks_of(container, path, track)[0]
        context, notes = stream.codec_context, list[str]()
        if len(container.streams.audio) > 1 and track is None:
            count = len(container.streams.audio)
            notes.append(f"the first of {count} sound tracks was taken (--track takes another)")
        if container.streams.video:
            notes.append("its picture was left out")
        lossless = context.name.startswith(LOSSLESS)
        tags = {**container.metadata, **stream.metadata}
        yield Recording(
            path,
            context.sample_rate,
            context.channels,
            round(seconds_of(container, stream) * context.sample_rate),
            "",
            SUBTYPES.get(context.format.name.rstrip("p"), "PCM_16") if lossless else "PCM_16",
            lambda _: _blocks(av, container, stream, path, notes),
            strings={STRINGS[k.lower()]: v for k, v in tags.items() if k.lower() in STRINGS},
            bit_rate=float(bit_rate_of(stream)),
            codec=context.codec.canonical_name,
            notes=notes,
        )


def usual_layout(channels: int) -> str:
    """Return FFmpeg's name of the usual layout of that many channels."""
    usual = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
    return usual[channels - 1] if channels <= len(usual) else f"{channels} channels"


def seconds_of(container: Any, stream: Any) -> float:
    """Return how long a stream says that it is; 0 where it does not."""
    return own_seconds(stream) or (container.duration or 0) / 1e6


def own_seconds(stream: Any) -> float:
    """Return the length of a stream apart from the others'; 0 where it is not known."""
    if stream.container.format.name == "avi":  # FFmpeg shortens the duration of one cut off
        return float(stream.frames * stream.time_base)
    if stream.duration:
        return float(stream.duration * stream.time_base)
    ended = stream.metadata.get("DURATION", "").split(":")  # of Matroska
    with suppress(ValueError):
        hours, minutes, seconds = map(float, ended)
        return (
            3600.0 * hours
            + 60.0 * minutes
            + seconds
            - float(stream.start_time or 0) * float(stream.time_base)
        )
    return 0.0


def check_whole(container: Any, path: Path, seconds: float, promised: float) -> None:
    """Raise AudioFileError if a header promises more than there was."""
    states = container.format.name.split(",")[0] in STATES_LENGTH
    if states and seconds < promised - SLACK_SECONDS:
        raise truncated(path, seconds / promised)


def packets_of(av: Any, container: Any, path: Path) -> Iterator[Any]:
    """Yield a file's packets."""
    try:
        yield from container.demux()
    except av.error.FFmpegError as error:
        sentence = f"{path} is damaged or cut off ({reason_of(error)}); copy it again."
        raise DamagedFileError(sentence) from None


def frames_of(av: Any, packet: Any, notes: list[str]) -> Iterator[Any]:
    """Yield a packet's frames; of one that is damaged there is a note."""
    try:
        yield from packet.decode()
    except av.error.FFmpegError:
        sentence = "damaged packets were left out"
        before = next((note for note in notes if note.endswith(sentence)), f"0 {sentence}")
        if before in notes:
            notes.remove(before)
        notes.append(f"{int(before.split()[0]) + 1} {sentence}")


def samples_of(frame: Any, stream: Any, path: Path) -> Array:
    """Return a decoded frame as float32, shape (samples, channels)."""
    channels, rate_hz = stream.codec_context.channels, stream.codec_context.sample_rate
    if (frame.layout.nb_channels, frame.sample_rate) != (channels, rate_hz):
        raise changed(path, frame.sample_rate, frame.layout.nb_channels, frame.time or 0.0)
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128.0) / 128.0
    return np.ascontiguousarray(to_float(values), np.float32)


def _blocks(av: Any, container: Any, stream: Any, path: Path, notes: list[str]) -> Iterator[Array]:
    done, rate_hz, last, ended = 0, stream.codec_context.sample_rate, 0.0, 0.0
    start = float((stream.start_time or 0) * stream.time_base)
    for packet in packets_of(av, container, path):
        last = max(last, end_of(packet))
        if packet.stream.index != stream.index:
            continue
        for frame in frames_of(av, packet, notes):
            yield (block := samples_of(frame, stream, path))
            done += len(block)
            ended = (frame.time or 0.0) - start + len(block) / rate_hz
    check_whole(container, path, max(ended, done / rate_hz), own_seconds(stream))
    check_whole(container, path, max(last, done / rate_hz), (container.duration or 0) / 1e6)


def end_of(packet: Any) -> float:
    """Return the time in seconds at which a packet ends."""
    return float(((packet.pts or 0) + (packet.duration or 0)) * (packet.time_base or 0))


def bit_rate_of(stream: Any) -> int:
    """Return a track's bits a second, by its packets if nothing states it; 0 for none."""
    import av

    if stream.codec_context.name.startswith(LOSSLESS):
        return 0
    if stated := stream.bit_rate or stream.codec_context.bit_rate:
        return int(stated)
    size, first, last = 0, None, 0.0
    with av.open(stream.container.name) as container:
        for packet in container.demux(container.streams[stream.index]):
            if packet.pts is not None:
                last = float(packet.pts * packet.time_base)
                first = last if first is None else first
                size += packet.size
                if last - first > BIT_RATE_SECONDS:
                    break
    return round(8 * size / (last - first)) if first is not None and last > first else 0
