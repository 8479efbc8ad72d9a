"""One file: read, denoise, write, in constant memory; the original stays as it is."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtden.denoiser import RECORDING_STEPS
from rtden.errors import AudioFileError, InputError
from rtden.extras import needed
from rtden.files import listing
from rtden.files.atomic import new_file, write_errors
from rtden.files.audio_file import (
    CLIPPED,
    PERCEPTUAL,
    Progress,
    Recording,
    open_recording,
    read_blocks,
)
from rtden.files.containers import copy_speakers
from rtden.files.listing import Raw, default_target, is_stream
from rtden.files.spool import spool
from rtden.files.tags import (
    AROUND,
    NOTHING,
    Tags,
    kind_of,
    lost_texts,
    read_tags,
    strings_of,
    write_tags,
)
from rtden.files.writing import check_result, format_of, write_recording
from rtden.noise import NoiseMeter
from rtden.recording import RecordingDenoiser
from rtden.settings import Settings, check_flags, number, require
from rtden.stream import StreamDenoiser
from rtden.types import Array

CODECS = {"MPEG_LAYER_III": "mp3", "VORBIS": "vorbis", "OPUS": "opus"}
"""FFmpeg's names of what libsndfile writes; of FLAC it names the container."""
FLOATING = ("FLOAT", "DOUBLE", *PERCEPTUAL)
"""What holds samples above full scale."""
FFMPEGS_ORDER = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "RAW")
"""Containers in which libsndfile leaves three channels and more in the order that FFmpeg wants."""


@dataclass(frozen=True)
class FileReport:
    """What was done to a file."""

    source: str
    target: str
    seconds: float
    """Length of the sound."""
    processing_seconds: float
    noise_removed_db: float
    """By how much the level of the background fell; NaN where there was none to measure."""
    notes: tuple[str, ...] = ()
    """What could not be kept, and what a user should know of the file; each a clause."""

    @property
    def real_time_factor(self) -> float:
        """Processing time over length."""
        return self.processing_seconds / self.seconds if self.seconds else 0.0


class _Stream:
    """A stream that measures the noise it removes, and may raise the level after it."""

    def __init__(self, stream: Any, rate_hz: int, gain: float) -> None:
        self._stream, self._gain = stream, np.float32(gain)
        self.noise = NoiseMeter(rate_hz, rate_hz)
        self.clipped = 0

    def feed(self, block: Array) -> Array:
        self.noise.before(block.mean(axis=1))
        return self._after(self._stream.feed(block))

    def flush(self) -> Array:
        return self._after(self._stream.flush())

    def _after(self, block: Array) -> Array:
        self.noise.after(block.mean(axis=1))
        block = block if self._gain == 1.0 else block * self._gain
        self.clipped += int(np.count_nonzero(np.abs(block) > 1.0))
        return block


def denoise_file(
    source: str | Path,
    target: str | Path | None = None,
    *,
    model: str | Path | None = None,
    settings: Settings | None = None,
    full_band: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    raw: Raw | None = None,
    track: int | None = None,
    loudness: float | None = None,
    leave_at: Path | None = None,
    streams: Callable[[int, int], Any] | None = None,
) -> FileReport:
    """Denoise a file into one of the same length, rate, channels, sample format and tags.

    Parameters
    ----------
    source, target : path
        Sound or video, and where to; the suffix chooses the container. "-" is standard input and
        output; other pipes and devices are read as that is. The default target is
        NAME.denoised.SUFFIX beside the source, and standard output for a pipe.
    model, settings :
        As for :class:`rtden.Denoiser`.
    full_band : bool
        Let sound above the model's band through, at the gain of the topmost bands.
    force : bool
        Overwrite an existing target.
    progress : callable, optional
        Called with the frames done and in all.
    raw, track : optional
        What a source without a header holds (:class:`rtden.files.listing.Raw`), and which of a
        video's sound tracks to denoise, from 1; the default is all.
    loudness : float, optional
        Integrated loudness of the result in LUFS (extra "av"); the work is done twice.
    leave_at : Path, optional
        Leave what was to become the target here, for a caller that moves it to `target` itself.
    streams : callable, optional
        Takes a rate in Hz and a number of channels; returns what denoises a track, in place of a
        :class:`rtden.recording.RecordingDenoiser`. Model, settings and full_band then say nothing.

    Returns
    -------
    FileReport
        Names, lengths in seconds, the noise removed in dB, and notes: what could not be kept.

    Raises
    ------
    AudioFileError
        If a file cannot be read or written, is truncated, or would be overwritten.
    InputError, ModelError, SettingsError
        If the rate, the channels, the model or a setting cannot be used.
    MissingPackageError
        If the file needs a package that is not installed.
    """

    def make(rate_hz: int, channels: int) -> Any:
        options: dict[str, Any] = {"rate_hz": rate_hz, "channels": channels}
        options |= {"batch_steps": RECORDING_STEPS, "full_band": full_band}
        return RecordingDenoiser(StreamDenoiser(model, settings, **options))

    check_flags(full_band=full_band, force=force)
    _check_names(source, source if target is None else target)
    for name, function in (("progress", progress), ("streams", streams)):
        if not (function is None or callable(function)):
            raise InputError(f"{name} is a function, not {type(function).__name__}.")
    source = str(source)
    if target is None:
        target = "-" if is_stream(source) else default_target(Path(source))
    read_from, write_to, folder = Path(source), Path(target), ""
    with ExitStack() as temporary:
        if is_stream(source) or target == "-":  # a header is written last, and read again
            with write_errors(Path("a temporary file")):
                folder = temporary.enter_context(tempfile.TemporaryDirectory(prefix="rtden-"))
        if target == "-":
            write_to = Path(folder, f"standard output{'.raw' if raw else ''}")
        try:
            if is_stream(source):
                read_from = Path(folder, "standard input" if source == "-" else Path(source).name)
                spool(source, read_from, raw, temporary)
            sides = read_from, write_to, force
            work = _Work(*sides, progress, raw, track, leave_at, streams or make)
            seconds, took = work.run(loudness)
        except AudioFileError as error:
            sentence = str(error).replace(f"{folder}{os.sep}", "") if folder else str(error)
            raise type(error)(sentence) from None
        if target == "-":
            with write_to.open("rb") as written, write_errors(Path("standard output")):
                shutil.copyfileobj(written, sys.stdout.buffer)
                sys.stdout.buffer.flush()
    removed_db, notes = work.made[0].noise.removed_db, tuple(dict.fromkeys(work.notes))
    return FileReport(source, str(target), seconds, took, removed_db, notes)


def _check_names(*places: Any) -> None:
    for place in places:
        if not isinstance(place, str | os.PathLike):
            given = type(place).__name__
            raise InputError(f"denoise_file takes a path, not {given}; rtden.denoise takes arrays.")
        if not str(place).strip() or "\0" in str(place):
            raise AudioFileError(f"{str(place)!r} is not the name of a file.")


@dataclass
class _Work:
    source: Path
    target: Path
    force: bool
    progress: Progress | None
    raw: Raw | None
    track: int | None
    leave_at: Path | None
    make: Callable[[int, int], Any]
    gain: float = 1.0
    notes: list[str] = field(default_factory=list)
    made: list[_Stream] = field(default_factory=list)

    def run(self, loudness: float | None) -> tuple[float, float]:
        """Do the work; return the length of the sound and of the work in seconds."""
        started = time.perf_counter()
        both = os.path.exists(self.target) and os.path.exists(self.source)
        if both and self.target.samefile(self.source):
            raise AudioFileError(
                f"{self.target} would overwrite the original; name another target."
            )
        if loudness is not None:
            require(-70 <= number(loudness) <= 0, "loudness", "lie between -70 and 0", loudness)
            self.gain = self._gain(loudness)
        with open_recording(self.source, self.raw, track=self.track) as recording:
            if muxer := self._muxer(recording):
                needed("av", "av", str(self.target))
                seconds = self._write_media(muxer, recording)
            else:
                seconds = self._write_sound(recording)
        return seconds, time.perf_counter() - started

    def _stream(self, rate_hz: int, channels: int) -> _Stream:
        try:
            stream = self.make(rate_hz, channels)
        except InputError as error:
            raise InputError(f"{self.source} cannot be denoised: {error}") from None
        self.made.append(_Stream(stream, rate_hz, self.gain))
        return self.made[-1]

    def _gain(self, loudness: float) -> float:
        from rtden.files.loudness import gain_for, measured

        with open_recording(self.source, self.raw, track=self.track) as recording:
            kind = recording.samplerate, recording.channels
            stream = self.make(*kind)

            def denoised() -> Iterator[Array]:
                yield from map(stream.feed, read_blocks(recording))
                yield stream.flush()

            found = measured(denoised(), *kind)
        return gain_for(*found, loudness, self.notes)

    def _muxer(self, recording: Recording) -> Any:
        """Return how FFmpeg writes what libsndfile does not; None for what it does."""
        suffix = self.target.suffix.lower()
        muxer = listing.OTHER_MUXERS.get(suffix)
        if suffix == ".opus":
            return None if recording.samplerate in listing.OPUS_RATES else muxer
        same = suffix == self.source.suffix.lower()
        kept = same and muxer and recording.codec == muxer.codec
        return muxer if kept else listing.MUXERS.get(suffix)

    def _write_media(self, muxer: Any, recording: Recording) -> float:
        from rtden.files.remux import denoise_media

        known, channels = recording.format, recording.channels  # by libsndfile
        fits = known in FFMPEGS_ORDER or (known and channels <= 2)
        options: dict[str, Any] = {"notes": self.notes, "raw": self.raw, "track": self.track}
        options |= {"progress": self.progress, "recording": recording if fits else None}
        with new_file(self.target, force=self.force, leave_at=self.leave_at) as partial:
            sides = self.source, partial, muxer, self.target.suffix.lower()
            seconds, written = denoise_media(*sides, self._stream, **options)
            for track, frames in written.items():
                check_result(self.target, partial, frames, track=track)
            return seconds

    def _write_sound(self, recording: Recording) -> float:
        same = self.target.suffix.lower() == self.source.suffix.lower()
        container, subtype = format_of(self.target, recording)
        tags = NOTHING if self.raw else read_tags(self.source)
        if not recording.format:  # FFmpeg has an order of channels of its own
            parts = [part for part in tags.parts if part[0].lower() != b"chan"]
            tags = tags._replace(parts=parts)
        stream = self._stream(recording.samplerate, recording.channels)
        done = 0
        with write_recording(
            self.target,
            recording.samplerate,
            recording.channels,
            container=container,
            subtype=subtype,
            like=recording,
            strings={} if kind_of(container) == tags.kind else recording.strings,
            force=self.force,
            leave_at=self.leave_at,
            finish=lambda path: self._finish(path, container, tags, recording),
        ) as write:
            for block in read_blocks(recording):
                write(stream.feed(block))
                done += len(block)
                if self.progress is not None:
                    self.progress(done, max(done, recording.frames))
            write(stream.flush())
        self._note(recording, container, subtype, same)
        return done / recording.samplerate

    def _finish(self, path: Path, container: str, tags: Tags, recording: Recording) -> None:
        with path.open("r+b") as file, recording.path.open("rb") as source:
            if source.read(4) == b"BW64" and file.read(4) == b"RF64":
                file.seek(0)
                file.write(b"BW64")
            copy_speakers(source, file)
        if tags.too_large:
            self.notes.append(f"left out for its size: {tags.too_large}")
        kept = strings_of(path) if kind_of(container) != tags.kind else recording.texts
        if tags.parts and (lost := write_tags(tags, path)):
            names = ", ".join(sorted({*recording.strings}.intersection(kept))) or "none"
            self.notes.append(f"of its tags the new format takes {names}; left out: {lost}")
        self.notes += [AROUND] if tags.around else []
        self.notes += lost_texts(recording.texts, kept)

    def _note(self, recording: Recording, container: str, subtype: str, same: bool) -> None:
        self.notes += recording.notes
        if not recording.format and not self.target.suffix:
            self.notes.append(f"written as {container}; a name with a suffix chooses the format")
        if container == "RAW" and recording.format != "RAW" and subtype != "GSM610":
            held = f"{recording.samplerate} Hz, {recording.channels} channels, {subtype}"
            self.notes.append(f"it has no header to say what it holds: {held}")
        own = recording.format.removesuffix("EX").replace("RF64", "WAV")
        if same and own and own != container.removesuffix("EX").replace("RF64", "WAV"):
            self.notes.append(f"it is {own} in spite of its name; written as {container}")
        codec = "flac" if container == "FLAC" else CODECS.get(subtype, "pcm")
        changed = recording.format == container and subtype != recording.subtype
        if changed or (same and recording.codec and not recording.codec.startswith(codec)):
            self.notes.append(f"written as {subtype}, for its own codec cannot be written")
        if (clipped := self.made[-1].clipped) and subtype not in FLOATING:
            self.notes.append(CLIPPED.format(clipped))
