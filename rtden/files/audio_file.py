"""Files and folders: constant memory, originals untouched, no half-written result."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from rtden.errors import AudioFileError
from rtden.noise import NoiseMeter
from rtden.quiet import quiet_stderr
from rtden.resample import load_soxr
from rtden.settings import Settings
from rtden.stream import StreamDenoiser
from rtden.types import Array

STEPS_AT_ONCE = 64
BLOCK_FRAMES = 1 << 15
SYSTEM_ERROR = 2
"""libsndfile's code for what the operating system refused."""
DENOISED = ".denoised"
SUFFIXES = frozenset(
    (
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".rf64",
    )
)
"""Files that are taken from a folder; a file named by itself may have any suffix."""

Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""
Streams = Callable[[int, int], StreamDenoiser]
"""Takes a rate in Hz and a number of channels; gives a stream at its beginning."""


@dataclass(frozen=True)
class FileReport:
    """What was done to a file."""

    source: str
    target: str
    seconds: float
    """Length of the recording."""
    processing_seconds: float
    noise_removed_db: float
    """By how much the level of the background fell."""

    @property
    def real_time_factor(self) -> float:
        """Processing time over length."""
        return self.processing_seconds / self.seconds if self.seconds else 0.0


def denoise_file(
    source: str | Path,
    target: str | Path | None = None,
    *,
    model: str | Path | None = None,
    settings: Settings | None = None,
    full_band: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    streams: Streams | None = None,
    leave_at: Path | None = None,
) -> FileReport:
    """Denoise a recording into a file of the same length, rate, channels and sample format.

    Parameters
    ----------
    source : path
        Anything that libsndfile reads, 8 to 192 kHz, 1 to 8 channels; "-" is standard input.
    target : path, optional
        Where to; its suffix chooses the container. The default is NAME.denoised.SUFFIX beside the source, and standard
        output ("-") for standard input.
    full_band : bool
        Let sound above the model's band through, at the gain of the topmost bands.
    force : bool
        Overwrite an existing target.
    streams : callable, optional
        Gives the stream to denoise with, for a caller that uses one for recording after recording; `model`, `settings` and
        `full_band` then say nothing.
    leave_at : Path, optional
        Leave what was to become the target here, complete, for a caller that moves it to `target` itself.

    Raises
    ------
    AudioFileError
        If a file cannot be read or written, is truncated, or would be overwritten.
    InputError, ModelError
        If the rate, the channels or the model cannot be used.
    """
    if target is None:
        target = "-" if source == "-" else default_target(Path(source))
    read_from, write_to = Path(source), Path(target)
    with ExitStack() as temporary:
        folder = Path()
        if "-" in (source, target):  # containers have headers to go back to, pipes cannot
            with _write_errors(Path("a temporary file")):
                folder = Path(temporary.enter_context(tempfile.TemporaryDirectory(prefix="rtden-")))
        if source == "-":
            read_from = folder / "standard input"
            with _write_errors(Path("a temporary file")), read_from.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        if target == "-":
            write_to = folder / "standard output"
        if streams is None:
            streams = functools.partial(recording_stream, model, settings, full_band=full_band)
        try:
            report = _denoise_path(
                read_from, write_to, streams, force=force, progress=progress, leave_at=leave_at
            )
        except AudioFileError as error:
            raise (
                AudioFileError(str(error).replace(f"{folder}{os.sep}", ""))
                if "-" in (source, target)
                else error
            ) from None
        if target == "-":
            with write_to.open("rb") as written, _write_errors(Path("standard output")):
                shutil.copyfileobj(written, sys.stdout.buffer)
                sys.stdout.buffer.flush()
    return dataclasses.replace(report, source=str(source), target=str(target))


def recording_stream(
    model: str | Path | None,
    settings: Settings | None,
    rate_hz: int,
    channels: int,
    *,
    full_band: bool,
) -> StreamDenoiser:
    """Return the stream that denoises recordings: many steps at once."""
    return StreamDenoiser(
        model,
        settings,
        rate_hz=rate_hz,
        channels=channels,
        full_band=full_band,
        batch_steps=STEPS_AT_ONCE,
    )


def default_target(source: Path) -> Path:
    """Return the path beside a recording at which its denoised version goes."""
    return source.with_name(f"{source.stem}{DENOISED}{source.suffix}")


def plan(sources: list[str], output: str | None) -> list[tuple[str, str]]:
    """Return the files to read and to write for a list of files and folders.

    A folder stands for the recordings anywhere below it, those that rtden wrote left out. Several files, or a folder, go
    under the folder `output` with their names and subfolders kept, or beside their originals if it is None.

    Raises
    ------
    AudioFileError
        If a source does not exist, a folder holds no recording, or two files would be written to one place.
    """
    many = len(sources) > 1 or any(source != "-" and os.path.isdir(source) for source in sources)
    into_folder = (
        output is not None
        and output != "-"
        and (many or os.path.isdir(output) or output.endswith(("/", os.sep)))
    )
    if many and output is not None and (not into_folder or os.path.isfile(output)):
        raise AudioFileError(
            f"several recordings cannot go into the one file {output}; give a folder with -o."
        )
    pairs: list[tuple[str, str]] = []
    for source in sources:
        if source == "-":
            pairs.append(("-", output or "-"))
            continue
        path = Path(source)
        for found, relative in _recordings(
            path, Path(output) if into_folder and output is not None else None
        ):
            if output is None:
                target = str(default_target(found))
            else:
                target = str(Path(output) / relative) if into_folder else output
            pairs.append((str(found), target))
    targets = [os.path.realpath(target) for _, target in pairs if target != "-"]
    overwritten = (
        sorted(
            {os.path.realpath(source) for source, _ in pairs if source != "-"}.intersection(targets)
        )
        if len(pairs) > 1
        else []
    )
    if overwritten:
        raise AudioFileError(
            f"{overwritten[0]} would be overwritten, yet it is one of the recordings; denoise them one by one."
        )
    if len(set(targets)) < len(targets):
        twice = next(target for target in targets if targets.count(target) > 1)
        raise AudioFileError(
            f"two recordings would be written to {twice}; give their folders instead of the files, or denoise them one by one."
        )
    return pairs


def _recordings(path: Path, output: Path | None) -> list[tuple[Path, Path]]:
    """Return the recordings that a path stands for, each with its path below it; those under the folder `output` are left out."""
    if not os.path.isdir(path):
        return [(path, Path(path.name))]
    found = sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in SUFFIXES
        and p.is_file()
        and not p.stem.endswith(DENOISED)
        and not p.name.startswith(".")
    )
    if output is not None and os.path.realpath(output) != os.path.realpath(path):
        ours = os.path.join(os.path.realpath(output), "")
        found = [p for p in found if not os.path.realpath(p).startswith(ours)]
    if not found:
        raise AudioFileError(
            f"the folder {path} holds no recordings ({', '.join(sorted(SUFFIXES))}); name the files."
        )
    return [(p, p.relative_to(path)) for p in found]


def _denoise_path(
    source: Path,
    target: Path,
    streams: Streams,
    *,
    force: bool,
    progress: Progress | None,
    leave_at: Path | None,
) -> FileReport:
    started = time.perf_counter()
    with open_recording(source) as recording:
        if os.path.exists(target) and target.samefile(source):
            raise AudioFileError(
                f"{target} would overwrite the original; choose another file with -o."
            )
        noise = NoiseMeter(recording.samplerate, recording.samplerate)
        stream = streams(recording.samplerate, recording.channels)
        container, subtype = format_of(target, recording)
        endian = (
            recording.endian
            if container == recording.format and container in ("WAV", "AIFF", "AU", "RAW")
            else "FILE"
        )
        with write_recording(
            target,
            recording.samplerate,
            recording.channels,
            container=container,
            subtype=subtype,
            endian=endian,
            metadata=recording.copy_metadata(),
            force=force,
            leave_at=leave_at,
        ) as write:
            done = 0
            for block in read_blocks(recording, source):
                noise.before(block.mean(axis=1))
                cleaned = stream.feed(block)
                noise.after(cleaned.mean(axis=1))
                write(cleaned)
                done += len(block)
                if progress is not None:
                    progress(done, recording.frames)
            tail = stream.flush()
            noise.after(tail.mean(axis=1))
            write(tail)
    return FileReport(
        str(source),
        str(target),
        done / recording.samplerate,
        time.perf_counter() - started,
        noise.removed_db,
    )


@contextmanager
def open_recording(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a recording for reading.

    Raises
    ------
    AudioFileError
        If it does not exist, cannot be read, is no audio, or is shorter than its header says.
    """
    if os.path.isdir(path):
        raise AudioFileError(f"{path} is a folder; name a recording in it.")
    try:
        path.open("rb").close()
        file = soundfile.SoundFile(os.fsencode(path))
    except FileNotFoundError:
        raise AudioFileError(f"there is no file {path}; check the name.") from None
    except OSError as error:
        raise AudioFileError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from None
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path} is not audio that can be read ({error.error_string.rstrip('.')}); convert it, for instance with ffmpeg."
        ) from None
    with file:
        _check_length(file, path)
        yield file


def read_aligned(*paths: Path) -> tuple[list[Array], int]:
    """Read recordings whole, as mono at the first one's rate and as long as the shortest; return them and the rate.

    Raises
    ------
    AudioFileError
        If one cannot be read.
    """
    signals, rates_hz = [], []
    for path in paths:
        with open_recording(path) as recording:
            blocks = [block.mean(axis=1) for block in read_blocks(recording, path)]
            signals.append(np.concatenate([np.empty(0, np.float32), *blocks]))
            rates_hz.append(recording.samplerate)
    if set(rates_hz) != {rates_hz[0]}:
        resample = load_soxr().resample
        signals = [
            resample(signal, rate_hz, rates_hz[0])
            for signal, rate_hz in zip(signals, rates_hz, strict=True)
        ]
    shortest = min(len(signal) for signal in signals)
    return [signal[:shortest] for signal in signals], rates_hz[0]


def _check_length(file: soundfile.SoundFile, path: Path) -> None:
    """Raise if a RIFF header promises more than the file holds; a recorder that writes to a pipe promises 2 or 4 GiB, or nothing."""
    promise = re.search(
        r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)",
        file.extra_info,
        re.MULTILINE,
    )
    if promise and int(promise[2]) < int(promise[1]) < 0x7FFF0000:
        raise _truncated(path, int(promise[2]) / int(promise[1]))
    if (
        file.frames == 0
        and re.search(r"^data : 0$", file.extra_info, re.MULTILINE)
        and path.stat().st_size > 4096
    ):
        raise AudioFileError(
            f"{path} was never finished: its header says that it is empty; repair it with 'ffmpeg -i {path.name} repaired{path.suffix}'."
        )


def read_blocks(
    file: soundfile.SoundFile, path: Path, *, frames: int = BLOCK_FRAMES
) -> Iterator[Array]:
    """Yield a recording's blocks of `frames`, shape (frames, channels), the last one shorter; the array is used again for the next.

    Raises
    ------
    AudioFileError
        If it ends before its header says, or is damaged.
    """
    buffer = np.empty((frames, file.channels), np.float32)
    done = 0
    while True:
        try:
            block = file.read(out=buffer)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(
                f"{path} is damaged after {done / file.samplerate:.1f} s ({error.error_string.rstrip('.')}); restore it or re-encode it with ffmpeg."
            ) from None
        if len(block):
            done += len(block)
            yield block
        if len(block) < frames:
            break
    if done < file.frames and file.frames < 1 << 62:
        raise _truncated(path, done / file.frames)


def _truncated(path: Path, share: float) -> AudioFileError:
    return AudioFileError(
        f"{path} is truncated: it holds {share:.0%} of the audio its header promises; "
        f"copy it again, or repair it with 'ffmpeg -i {path.name} repaired{path.suffix}'."
    )


@contextmanager
def write_recording(
    path: Path,
    rate_hz: int,
    channels: int,
    *,
    container: str = "WAV",
    subtype: str = "PCM_16",
    endian: str = "FILE",
    metadata: dict[str, str] | None = None,
    force: bool = False,
    leave_at: Path | None = None,
) -> Iterator[Callable[[Array], None]]:
    """Open a file for writing and yield the function that appends a block; the file appears when all went well, whole.

    Parameters
    ----------
    container, subtype, endian : str
        libsndfile's names.
    force : bool
        Overwrite an existing file.
    leave_at : Path, optional
        Leave it here when it is whole, in the same folder, for a caller that moves it to `path` itself.

    Raises
    ------
    AudioFileError
        If the file exists already or cannot be written.
    """
    check_target(path, force=force)
    make_folder(path.parent)
    partial = leave_at or path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            partial.open("xb").close()
            file = soundfile.SoundFile(
                os.fsencode(partial), "w", rate_hz, channels, subtype, endian, container
            )
        except OSError as error:
            raise AudioFileError(
                f"{path} cannot be written ({error.strerror}); choose another place."
            ) from None
        except (soundfile.LibsndfileError, ValueError) as error:
            if isinstance(error, soundfile.LibsndfileError) and error.code == SYSTEM_ERROR:
                raise AudioFileError(
                    f"{path} cannot be written ({error.error_string.rstrip('.')}); make room on the disk or choose another place."
                ) from None
            reason = (
                error.error_string.rstrip(".")
                if isinstance(error, soundfile.LibsndfileError)
                else error
            )
            raise AudioFileError(
                f"{path} cannot be written as {container} ({reason}); choose another format, for instance NAME.wav."
            ) from None
        written = 0

        def append(block: Array) -> None:
            nonlocal written
            with _write_errors(path):
                file.write(block)
            written += len(block)

        with _write_errors(path):
            with file:
                for name, value in (metadata or {}).items():
                    with suppress(
                        soundfile.LibsndfileError
                    ):  # not every container has a place for it
                        setattr(file, name, value)
                yield append
            _check_written(partial, written)
            if leave_at is None:
                partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _check_written(path: Path, frames: int) -> None:
    """Raise OSError if the end of a file is missing: what a codec writes when it is closed may fail without a word."""
    if not frames:
        return
    last = min(frames, 8192)
    try:
        with (
            quiet_stderr(),
            soundfile.SoundFile(os.fsencode(path)) as file,
        ):  # libmpg123 says what it misses
            file.seek(frames - last)
            whole = file.frames >= frames and len(file.read(last, dtype="float32")) == last
    except soundfile.LibsndfileError:
        whole = False
    if not whole:
        raise OSError(errno.EIO, "its end is missing")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, as far as they are missing.

    Raises
    ------
    AudioFileError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(
            f"the folder {path} cannot be made ({error.strerror}); choose another place."
        ) from None


def check_target(path: Path, *, force: bool) -> None:
    """Raise AudioFileError if a file must not be written there."""
    if os.path.isdir(path):
        raise AudioFileError(f"{path} is a folder; name the file to write in it.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise AudioFileError(
            f"{path} is a device or a pipe; name a file, or give '-' for standard output."
        )
    if os.path.exists(path) and not force:
        raise AudioFileError(
            f"{path} exists already; choose another file, or overwrite it with --force."
        )


def write_whole(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file that appears only when it is complete, and the folders above it.

    Raises
    ------
    AudioFileError
        If the file exists already or cannot be written.
    """
    check_target(path, force=force)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise AudioFileError(
            f"{path} cannot be written ({error.strerror}); make room on the disk or choose another place."
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, soundfile.LibsndfileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.error_string.rstrip(".")
        raise AudioFileError(
            f"{path} could not be written to its end ({reason}); make room on the disk or choose another place."
        ) from None


def format_of(path: Path, recording: soundfile.SoundFile | None = None) -> tuple[str, str]:
    """Return libsndfile's names of container and sample format for a file to be written.

    The suffix chooses the container, and the recording, if there is one, the sample format as far as the container has it;
    a suffix that says nothing leaves the recording's container, or WAV.
    """
    suffix = path.suffix[1:].upper()
    wanted = {
        "WAVE": "WAV",
        "AIF": "AIFF",
        "AIFC": "AIFF",
        "SND": "AU",
        "OGA": "OGG",
        "OPUS": "OGG",
    }.get(suffix, suffix)
    if wanted not in soundfile.available_formats():
        wanted = recording.format if recording else "WAV"
    if recording and (wanted == recording.format or (wanted, recording.format) == ("WAV", "WAVEX")):
        return recording.format, recording.subtype
    if (
        recording
        and not recording.subtype.startswith("MPEG")
        and soundfile.check_format(wanted, recording.subtype)
    ):
        return wanted, recording.subtype
    return wanted, "OPUS" if suffix == "OPUS" else str(soundfile.default_subtype(wanted))
