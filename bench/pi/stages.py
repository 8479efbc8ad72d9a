"""Compare the path stage by stage on two machines: the features, and the rest from the same ones.

    stages.py record RECORDING OUT.npz      on one
    stages.py compare RECORDING OUT.npz     on the other

Transforms and logarithms differ in their last bits from machine to machine. That may tip an int8
number of the network's input, which acts for as long as the network's memory reaches: end to end, a
difference says little. Stage by stage there is no room for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import soundfile

from rtden import Denoiser
from rtden.mel import Features
from rtden.model import ModelSpec

FEATURES_WITHIN = 1e-5
"""Largest difference of the features, whose unit is 20 dB."""
BOUND_DB = -80.0
"""Of the difference of what comes of the same features, relative to the output."""


class Recorder(Features):
    """Features that are kept."""

    def __init__(self, features: Features, spec: ModelSpec) -> None:
        super().__init__(spec, features.columns.shape[1])
        self.kept: list[np.ndarray] = []

    def push(self, frames_power: np.ndarray) -> None:
        """Slide in new columns and keep the window."""
        super().push(frames_power)
        self.kept.append(self.columns.copy())


class Replayer(Recorder):
    """Features that come from elsewhere."""

    given: Iterator[np.ndarray]

    def push(self, _: np.ndarray) -> None:
        """Take the next window."""
        self.columns[...] = next(self.given)


def run(denoiser: Denoiser, recording: str) -> np.ndarray:
    """Return a recording denoised."""
    samples, _ = soundfile.read(recording, dtype="float32")
    return np.concatenate([denoiser.feed(samples), denoiser.flush()])


def main(task: str, recording: str, file: str) -> None:
    """Record, or compare and leave with 1 where the machines do not agree."""
    denoiser = Denoiser()
    denoiser.features = recorder = Recorder(denoiser.features, denoiser.spec)
    out = run(denoiser, recording)
    if task == "record":
        np.savez(file, features=np.stack(recorder.kept), out=out)
        return
    theirs = np.load(file)
    apart = float(np.abs(np.stack(recorder.kept) - theirs["features"]).max())
    denoiser.features = replayer = Replayer(recorder, denoiser.spec)
    replayer.given = iter(theirs["features"])
    difference = run(denoiser, recording) - theirs["out"]
    level_db = 10.0 * np.log10(np.mean(np.square(difference)) / np.mean(np.square(out)) + 1e-30)
    print(f"features: largest difference {apart:.1e} (bound {FEATURES_WITHIN:.0e})")
    print(f"what comes of the same features: {level_db:.0f} dB (bound {BOUND_DB:.0f} dB)")
    if apart > FEATURES_WITHIN or level_db > BOUND_DB:
        sys.exit("the machines do not agree: their difference is more than rounding")


if __name__ == "__main__":
    main(*sys.argv[1:])
