"""Write sound files by libsndfile: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden.errors import AudioFileError, MissingPackageError
from rtden.files.atomic import new_file, reason_of, write_errors, write_more
from rtden.files.audio_file import (
    PERCEPTUAL,
    Recording,
    open_recording,
    read_blocks,
    vorbis_order,
)
from rtden.files.containers import state_frames
from rtden.files.listing import HEADERLESS
from rtden.types import Array

LARGEST_WAV = 4_200_000_000  # a WAV's sizes have 32 bits; what may become larger is written as RF64
LAME_SCALES = ((240e3, 1.0), (208e3, 0.98), (176e3, 0.97), (0.0, 0.95))
"""What LAME multiplies the sound by, from a bit rate on, unless its quality is what is constant."""
RATE_SLACK = 0.005  # relative error of a rate that a header states as a period
LOWEST_MP3 = 0.99  # libsndfile refuses 1, the lowest bit rate
COUNTED_BIT_RATE = 64000
"""Below, frames of one size have no room for the count by which a decoder leaves padding out."""
GENTLE_SUBTYPES = {"FLOAT": "PCM_24", "DOUBLE": "PCM_24", "PCM_32": "PCM_24"}
"""What a container takes that has no room for a sample format."""
PLAIN = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""How sample formats begin whose size says how much there is."""
UNWRITTEN = {"SD2", "DWVW_12", "DWVW_16", "DWVW_24"}
"""What libsndfile says that it writes, but in a second file, or not at all."""
CONTAINERS = {
    **{"WAVE": "WAV", "AIF": "AIFF", "AIFC": "AIFF", "OGA": "OGG", "OPUS": "OGG", "SND": "AU"},
    **{"PCM": "RAW", "GSM": "RAW", "SPH": "NIST", "8SVX": "SVX"},
}
"""libsndfile's names where the suffix is another."""


@contextmanager
def write_recording(
    path: Path,
    rate_hz: int,
    channels: int,
    *,
    container: str = "WAV",
    subtype: str = "PCM_16",
    like: Recording | None = None,
    strings: dict[str, str] | None = None,
    force: bool = False,
    leave_at: Path | None = None,
    finish: Callable[[Path], None] = lambda _: None,
) -> Iterator[Callable[[Array], None]]:
    """Yield the function that appends a block to a file, which appears when all went well, whole.

    Container and sample format have libsndfile's names; byte order and bit rate are as in the
    recording that it is `like`. Of `strings` (title and so on) the container takes what it has a
    place for. `leave_at` is as in :func:`rtden.files.atomic.new_file`; `finish` gets the complete
    file before it is moved. Raises AudioFileError if the file exists or cannot be written.
    """
    with new_file(path, force=force, leave_at=leave_at) as partial:
        bit_rate = like.bit_rate if like else 0.0
        endian, mode = like.endian if like and like.format == container else "FILE", None
        try:
            _check_rate(partial, container, subtype, rate_hz, channels)
            level = _compression(partial, subtype, bit_rate, rate_hz, channels)
            if like and level is not None and subtype.startswith("MPEG"):
                mode = "AVERAGE" if like.variable or bit_rate < COUNTED_BIT_RATE else "CONSTANT"
            file = soundfile.SoundFile(
                os.fsencode(partial), "w", rate_hz, channels, subtype, endian, container,
                compression_level=level, bitrate_mode=mode,
            )  # fmt: skip
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            with write_errors(path, "cannot be written there"):
                write_more(partial)
            unfit = f"it takes no {channels} channels at {rate_hz} Hz"
            reason = reason_of(error).replace("Format not recognised", unfit)
            raise AudioFileError(
                f"{path} cannot be written as {container} ({reason}); choose another format, for "
                "instance NAME.wav."
            ) from None
        order: Any = vorbis_order(container, subtype, channels) or slice(None)
        written, gain = 0, 1.0 if mode is None else mp3_gain(bit_rate)

        def append(block: Array) -> None:
            nonlocal written
            with write_errors(path, partial=partial):
                file.write((block if gain == 1.0 else block * np.float32(gain))[:, order])
            written += len(block)

        with write_errors(path, partial=partial):
            with file:
                for name, value in (strings or {}).items():
                    with suppress(soundfile.LibsndfileError):
                        setattr(file, name, value)
                yield append
            state_frames(partial, written)
            finish(partial)
        if container != "RAW" or not written:  # without a header any bytes are sound
            check_result(path, partial, written, live=like is None)


def _check_rate(trial: Path, container: str, subtype: str, rate_hz: int, channels: int) -> None:
    """Raise an error if a container would state another rate, found by writing a file.

    libsndfile would not pass on an interrupt that comes while it writes to an object of Python.
    """
    if container == "RAW":
        return
    name, kind = os.fsencode(trial), (rate_hz, channels, subtype)
    with soundfile.SoundFile(name, "w", *kind, format=container) as file:
        file.write(np.zeros((1, channels)))
    with soundfile.SoundFile(name) as file:
        if abs(file.samplerate - rate_hz) > RATE_SLACK * rate_hz:
            raise ValueError(f"it would be played at {file.samplerate} Hz instead of {rate_hz}")


def _compression(
    trial: Path, subtype: str, bit_rate: float, rate_hz: int, channels: int
) -> float | None:
    """Return libsndfile's level of compression (0 to 1) for a bit rate; None for its own choice."""
    if bit_rate <= 0.0 or subtype not in PERCEPTUAL:
        return None
    if subtype == "OPUS":
        level = 1.0 - (bit_rate / channels - 6000.0) / 250000.0
    elif subtype == "VORBIS":
        level = _vorbis_level(trial, bit_rate, rate_hz, channels)
    else:
        low, high = (32, 320) if rate_hz >= 32000 else (8, 160) if rate_hz >= 16000 else (8, 64)
        level = min(LOWEST_MP3, (high - bit_rate / 1000.0) / (high - low))
    return min(1.0, max(0.0, level))


def mp3_gain(bit_rate: float) -> float:
    """Return the gain that makes up for LAME's own, which depends on the bit rate."""
    return 1.0 / next(scale for least, scale in LAME_SCALES if bit_rate >= least)


def _vorbis_level(trial: Path, bit_rate: float, rate_hz: int, channels: int) -> float:
    """Return the level of compression at which Vorbis states a bit rate, found by trial."""
    low, high, kind = 0.0, 1.0, (os.fsencode(trial), "w", rate_hz, channels, "VORBIS", None, "OGG")
    while high - low > 0.01:
        level = (low + high) / 2.0
        soundfile.SoundFile(*kind, compression_level=level).close()
        nominal = int.from_bytes(trial.read_bytes()[48:52], "little")
        if nominal >= 1 << 31:  # none is stated: as many bits a sample as at another rate
            return _vorbis_level(trial, bit_rate * 44100.0 / rate_hz, 44100, channels)
        low, high = (level, high) if nominal > bit_rate else (low, level)
    return high


def check_result(
    path: Path, partial: Path, frames: int, *, track: int | None = None, live: bool = False
) -> None:
    """Raise AudioFileError unless a decoder returns at least `frames` of a finished file.

    `partial` is to become `path`. A codec may fail without a word when it closes, and some
    containers take no sound, or none as short. Of PCM, and of what was recorded `live` for hours,
    the size and the header are enough. Without PyAV, what needs it is not checked.
    """
    found = "cannot be read again"
    try:
        with open_recording(partial, track=track) as recording:
            sized = recording.format not in ("", "FLAC") and recording.subtype.startswith(PLAIN)
            stated = recording.frames if sized or live else 0
            held = stated or sum(map(len, read_blocks(recording)))
            found = f"holds {held} of {frames} samples"
            if held >= frames:
                return
    except MissingPackageError:
        return
    except AudioFileError:
        pass
    with write_errors(path):
        write_more(partial)
    raise AudioFileError(
        f"{path} was not made: what was written {found}; choose another format, for instance "
        "NAME.wav."
    )


def format_of(path: Path, recording: Recording | None = None) -> tuple[str, str]:
    """Return libsndfile's names of container and sample format for a file to be written.

    The suffix chooses the container, and the recording, if there is one, the sample format, as far
    as the container has it. Without a suffix, or with the recording's own, the container is the
    recording's. A large WAV is an RF64.
    """
    suffix, known = path.suffix[1:].upper(), {*soundfile.available_formats()} - UNWRITTEN
    wanted = CONTAINERS.get(suffix, suffix)
    own = recording.format if recording else "WAV"
    same = recording and path.suffix.lower() == recording.path.suffix.lower()
    if not suffix or (same and own and wanted not in known):
        wanted = own or "WAV"
    if wanted not in known:
        raise AudioFileError(
            f"{path} cannot be written: rtden writes no {path.suffix} files; choose another "
            "format, for instance .wav, .flac, .mp3, .opus, .m4a, .mp4 or .mkv."
        )
    usual = "OPUS" if suffix == "OPUS" else str(soundfile.default_subtype(wanted))
    if suffix == "GSM":
        usual = "GSM610"
        if recording and (recording.samplerate, recording.channels) != HEADERLESS[".gsm"].known[:2]:
            raise AudioFileError(
                f"{path} cannot be written, for a .gsm has one channel at 8000 Hz, not "
                f"{recording.channels} at {recording.samplerate} Hz; choose for instance NAME.wav."
            )
    if recording is None or suffix == "GSM":
        return wanted, usual
    if wanted == "WAV" and own in ("WAVEX", "RF64"):
        wanted = own
    subtype = recording.subtype
    kept = subtype in PERCEPTUAL and wanted == own in ("OGG", "MP3")
    unfit = subtype in PERCEPTUAL or subtype in UNWRITTEN
    if not kept and (unfit or not soundfile.check_format(wanted, subtype)):
        subtype = GENTLE_SUBTYPES.get(subtype, "")
        subtype = subtype if soundfile.check_format(wanted, subtype) else usual
    width = {"DOUBLE": 8, "FLOAT": 4, "PCM_32": 4, "PCM_24": 3}.get(subtype, 2)
    if wanted in ("WAV", "WAVEX") and recording.frames * recording.channels * width > LARGEST_WAV:
        wanted = "RF64"
    return wanted, subtype
