"""Folders of recordings, decoded once into one memory-mapped array each, and split by speaker or by recording."""

from __future__ import annotations

import hashlib
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from rtden.errors import AudioFileError
from rtden.types import Array

_LOGGER = logging.getLogger(__name__)

VALIDATION_SHARE = 0.1
"""Share of the speakers, and of the noise recordings, that is kept for validation."""

SPEEDS = (0.9, 1.38)
"""Range of speeds of the further copies of speech. 1.38 lifts speech recorded at 16 kHz to the top of a spectrum of 22 050 Hz."""


@dataclass(frozen=True)
class Clips:
    """Recordings of one folder, end to end in one memory-mapped array.

    `group` is what must not be split between training and validation: a speaker's folder for speech, a recording for noise.
    """

    samples: NDArray[np.int16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    bandwidth_hz: NDArray[np.float32]
    group: NDArray[np.str_]

    def __getstate__(self) -> dict[str, Any]:
        """Hand a mapped file to another process by its name, not by its content."""
        samples: Any = self.samples
        return {
            **self.__dict__,
            "samples": Path(str(samples.filename)) if isinstance(samples, np.memmap) else samples,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["samples"], Path):
            state["samples"] = np.load(state["samples"], mmap_mode="r")
        self.__dict__.update(state)

    def select(self, chosen: NDArray[np.bool_]) -> Clips:
        """Return the chosen recordings; the samples are shared."""
        return Clips(
            self.samples,
            self.start[chosen],
            self.length[chosen],
            self.bandwidth_hz[chosen],
            self.group[chosen],
        )

    def split(self) -> tuple[Clips, Clips]:
        """Return a training and a validation part that share no group; the same split for the same folder, always.

        Raises
        ------
        AudioFileError
            If there is only one group.
        """
        names = np.unique(self.group)
        if len(names) < 2:
            raise AudioFileError(
                f"'{names[0]}' is the only speaker or recording, and one more is needed to judge the training by; add another."
            )
        validation = np.array([_unit_hash(name) < VALIDATION_SHARE for name in self.group])
        if validation.all() or not validation.any():  # too few groups to give any away by chance
            validation = self.group == names[0]
        return self.select(~validation), self.select(validation)

    def excerpt(self, index: int, samples: int, rng: np.random.Generator) -> Array:
        """Return up to `samples` samples from a random place of a recording."""
        length = int(self.length[index])
        offset = int(self.start[index]) + int(rng.integers(0, max(1, length - samples + 1)))
        return self.samples[offset : offset + min(samples, length)].astype(np.float32) / 32768.0


def load_clips(
    folder: Path,
    cache: Path,
    *,
    rate_hz: int,
    group_depth: int | None,
    copies: int = 0,
    seed: int = 0,
) -> Clips:
    """Decode and resample every recording under a folder, once; later calls map the cached result.

    Parameters
    ----------
    group_depth : int or None
        How many leading folders of a recording's path name its group; a recording outside any folder, and every recording
        if None, is a group of its own.
    copies : int
        Further copies of every recording, each at a speed of its own from :data:`SPEEDS`. Speech recorded at 16 kHz gains
        content above 8 kHz that way, and voices vary more.

    Raises
    ------
    AudioFileError
        If the folder holds no recording, or one that cannot be read.
    """
    suffixes = {*soundfile.available_formats(), "OPUS", "OGA"}
    paths = sorted(p for p in folder.rglob("*") if p.suffix[1:].upper() in suffixes and p.is_file())
    if not paths:
        raise AudioFileError(f"{folder} holds no audio files; give the folder of your recordings.")
    key = hashlib.sha256(
        repr(
            (
                rate_hz,
                copies,
                SPEEDS,
                seed,
                group_depth,
                [(str(p.relative_to(folder)), p.stat().st_size) for p in paths],
            )
        ).encode()
    )
    stem = cache / f"{folder.name}-{key.hexdigest()[:12]}"
    index_path, samples_path = stem.with_suffix(".index.npz"), stem.with_suffix(".npy")
    if not index_path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        speeds = np.concatenate(
            [np.ones((len(paths), 1)), rng.uniform(*SPEEDS, (len(paths), copies))], axis=1
        )
        with ProcessPoolExecutor() as pool:
            decoded = [
                copy
                for some in pool.map(partial(_decode, rate_hz=rate_hz), paths, speeds, chunksize=16)
                for copy in some
            ]
        lengths = np.array([len(samples) for samples, _ in decoded], np.int64)
        # Written beside and renamed: an interrupt leaves no half corpus that looks like a whole one.
        partial_path = samples_path.with_suffix(".partial.npy")
        np.save(partial_path, np.concatenate([samples for samples, _ in decoded]))
        os.replace(partial_path, samples_path)
        groups = [
            _group(path.relative_to(folder), group_depth)
            for path in paths
            for _ in range(1 + copies)
        ]
        np.savez(
            index_path,
            start=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            length=lengths,
            bandwidth_hz=np.array([bandwidth for _, bandwidth in decoded], np.float32),
            group=np.array(groups),
        )
        hours = lengths.sum() / rate_hz / 3600
        _LOGGER.info(
            "%s: %d recordings, %.2f h with %d further copies, %d groups",
            folder,
            len(paths),
            hours,
            copies,
            len(set(groups)),
        )
    index = np.load(index_path)
    return Clips(
        np.load(samples_path, mmap_mode="r"),
        index["start"],
        index["length"],
        index["bandwidth_hz"],
        index["group"],
    )


def _group(path: Path, depth: int | None) -> str:
    folders = path.parts[:-1][:depth]
    return "/".join(folders) if depth is not None and folders else str(path)


def _decode(
    path: Path, speeds: NDArray[np.float64], *, rate_hz: int
) -> list[tuple[NDArray[np.int16], float]]:
    try:
        samples, source_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(
            f"{path} cannot be read ({error}); take it out of the folder or repair it."
        ) from None
    mono = samples.mean(axis=1)
    copies = []
    for speed in speeds:
        resampled = soxr.resample(mono, float(round(source_hz * speed)), rate_hz)
        copies.append(
            (
                np.clip(resampled * 32767.0, -32768, 32767).astype(np.int16),
                min(source_hz * speed, rate_hz) / 2.0,
            )
        )
    return copies


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64
