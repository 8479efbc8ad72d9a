"""Folders of recordings, decoded once into a memory-mapped array, split by speaker or recording."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from rtden.errors import AudioFileError
from rtden.files.atomic import new_file
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.listing import list_audio
from rtden.types import Array

StageReport = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of finished items and the number of all items."""
VALIDATION_SHARE = 0.1  # of the speakers, and of the noise recordings, kept for validation
SPEEDS = (0.9, 1.38)  # range for further copies of speech: 1.38 moves a limit of 8 kHz to 11 kHz


@dataclass(frozen=True)
class Clips:
    """Recordings of one folder, end to end in one memory-mapped array.

    `group` must not be split between training and validation: a speaker's folder for speech, the
    path of a recording for noise. Its first folder is the recording's category.
    """

    samples: NDArray[np.int16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    bandwidth_hz: NDArray[np.float32]
    group: NDArray[np.str_]

    def __getstate__(self) -> dict[str, Any]:
        """Pass a mapped file to another process by its name, not by its content."""
        samples: Any = self.samples
        mapped = isinstance(samples, np.memmap)
        return {**self.__dict__, "samples": Path(str(samples.filename)) if mapped else samples}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["samples"], Path):
            state["samples"] = np.load(state["samples"], mmap_mode="r")
        self.__dict__.update(state)

    def split(self) -> tuple[Clips, Clips]:
        """Return a training and a validation part that share no group.

        The same folder always gives the same split; one group alone raises AudioFileError.
        """
        names = np.unique(self.group)
        if len(names) < 2:
            raise AudioFileError(
                f"'{names[0]}' is the only speaker or recording, and validation needs one more; "
                "add another."
            )
        hashes = [hashlib.sha256(name.encode()).digest()[:8] for name in self.group]
        chances = np.array([int.from_bytes(digest, "big") / 2.0**64 for digest in hashes])
        validation = chances < VALIDATION_SHARE
        if validation.all() or not validation.any():  # too few groups for a random split
            validation = self.group == names[0]
        columns: Any = (self.start, self.length, self.bandwidth_hz, self.group)
        training, kept = (
            Clips(self.samples, *(column[chosen] for column in columns))
            for chosen in (~validation, validation)
        )
        return training, kept

    def categories(self) -> NDArray[np.str_]:
        """Return the category of each recording: the first folder of its group."""
        return np.array([name.split("/")[0] for name in self.group])

    def excerpt(self, index: int, samples: int, rng: np.random.Generator) -> Array:
        """Return up to `samples` samples from a random place of a recording."""
        length = int(self.length[index])
        offset = int(self.start[index]) + int(rng.integers(0, max(1, length - samples + 1)))
        excerpt = self.samples[offset : offset + min(samples, length)]
        return excerpt.astype(np.float32) / 32768.0


def load_clips(
    folder: Path,
    cache: Path,
    *,
    rate_hz: int,
    group_depth: int | None,
    copies: int = 0,
    leave_out: Container[str] = (),
    seed: int = 0,
    report: StageReport | None = None,
) -> Clips:
    """Decode and resample every recording under a folder once; later calls map the cached result.

    The `group_depth` first folders of a recording's path name its group; outside any folder, or if
    None, a recording is a group of its own. `copies` are further ones of each, at random speeds.
    Folders in `leave_out`, directly below `folder`, are skipped. Raises AudioFileError if there is
    no recording, or one that cannot be read.
    """
    paths = find_recordings(folder, leave_out)
    named = [(str(path.relative_to(folder)), path.stat().st_size) for path in paths]
    speeds_key = (copies, SPEEDS, seed) if copies else ()
    key = hashlib.sha256(repr((rate_hz, speeds_key, group_depth, named)).encode())
    stem = cache / f"{folder.name}-{key.hexdigest()[:12]}"
    index_path, samples_path = stem.with_suffix(".index.npz"), stem.with_suffix(".npy")
    if not index_path.exists():
        speeds, decoded = np.ones((len(paths), 1 + copies)), []
        speeds[:, 1:] = np.random.default_rng(seed).uniform(*SPEEDS, (len(paths), copies))
        # Decoding and resampling release the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for number, found in enumerate(pool.map(_decode, paths, speeds, repeat(rate_hz))):
                decoded += found
                if report is not None:
                    report(f"decoding {folder.name}", number + 1, len(paths))
        lengths = np.array([len(samples) for samples, _ in decoded], np.int64)
        # An interrupt leaves no half corpus that looks like a whole one.
        with new_file(samples_path, force=True) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate([samples for samples, _ in decoded]))
        relative = [path.relative_to(folder) for path in paths for _ in range(1 + copies)]
        np.savez(
            index_path,
            start=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            length=lengths,
            bandwidth_hz=np.array([bandwidth for _, bandwidth in decoded], np.float32),
            group=np.array([_group(path, group_depth) for path in relative]),
        )
    with np.load(index_path) as index:
        columns = [index[name] for name in ("start", "length", "bandwidth_hz", "group")]
    return Clips(np.load(samples_path, mmap_mode="r"), *columns)


def find_recordings(folder: Path, leave_out: Container[str] = ()) -> list[Path]:
    """Return a folder's recordings but those in folders `leave_out`; AudioFileError if none."""
    found = list_audio(folder)
    paths = [path for path in found if path.relative_to(folder).parts[0] not in leave_out]
    if not paths:
        raise AudioFileError(f"{folder} holds no audio files; give the folder of your recordings.")
    return paths


def _group(path: Path, depth: int | None) -> str:
    folders = path.parts[:-1][:depth]
    return "/".join(folders) if depth is not None and folders else str(path)


def _decode(
    path: Path, speeds: Sequence[float], rate_hz: int
) -> list[tuple[NDArray[np.int16], float]]:
    """Return a recording at each speed, and the upper end of its band in Hz."""
    with open_recording(path) as recording:
        blocks = [block.mean(axis=1) for block in read_blocks(recording)]
        mono, source_hz = np.concatenate([np.empty(0, np.float32), *blocks]), recording.samplerate
    copies = []
    for speed in speeds:
        resampled = soxr.resample(mono, float(round(source_hz * speed)), rate_hz)
        clipped = np.clip(resampled * 32767.0, -32768, 32767).astype(np.int16)
        copies.append((clipped, min(source_hz * speed, rate_hz) / 2.0))
    return copies
