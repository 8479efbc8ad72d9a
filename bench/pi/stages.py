"""Compare the path stage by stage on two machines: the features, and what comes of the same features.

    stages.py record RECORDING OUT.npz      on one
    stages.py compare RECORDING OUT.npz     on the other

Transforms and logarithms differ in their last bits from machine to machine. That may tip an int8 number of the network's input, which is
then heard of for as long as the network remembers it: end to end, a difference says little. Stage by stage there is no room for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import soundfile

from rtden import Denoiser

FEATURES_WITHIN = 1e-5
"""Largest difference of the features, whose unit is 20 dB."""
BOUND_DB = -80.0
"""Of the difference of what comes of the same features, relative to the output."""


class Recorder(Denoiser):
    """A denoiser that keeps its features."""

    def reset(self) -> None:
        """Forget the stream, but not its features."""
        super().reset()
        self.kept: list[np.ndarray] = getattr(self, "kept", [])

    def _mel(self) -> None:
        super()._mel()
        self.kept.append(self._mel_window.columns.copy())


class Replayer(Denoiser):
    """A denoiser that takes its features from elsewhere."""

    given: Iterator[np.ndarray]

    def _mel(self) -> None:
        self._mel_window.columns[...] = next(self.given)


def run(denoiser: Denoiser, recording: str) -> np.ndarray:
    """Return a recording denoised."""
    samples, _ = soundfile.read(recording, dtype="float32")
    return np.concatenate([denoiser.feed(samples), denoiser.flush()])


def main(task: str, recording: str, file: str) -> None:
    """Record, or compare and leave with 1 where the machines do not agree."""
    recorder = Recorder()
    out = run(recorder, recording)
    if task == "record":
        np.savez(file, features=np.stack(recorder.kept), out=out)
        return
    theirs = np.load(file)
    apart = float(np.abs(np.stack(recorder.kept) - theirs["features"]).max())
    replayer = Replayer()
    replayer.given = iter(theirs["features"])
    difference = run(replayer, recording) - theirs["out"]
    level_db = 10.0 * np.log10(np.mean(np.square(difference)) / np.mean(np.square(out)) + 1e-30)
    print(f"features: largest difference {apart:.1e} (bound {FEATURES_WITHIN:.0e})")
    print(f"what comes of the same features: {level_db:.0f} dB (bound {BOUND_DB:.0f} dB)")
    if apart > FEATURES_WITHIN or level_db > BOUND_DB:
        sys.exit("the machines do not agree: their difference is more than rounding")


if __name__ == "__main__":
    main(*sys.argv[1:])
