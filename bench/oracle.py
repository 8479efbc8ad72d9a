"""How good the signal path could be: the Denoiser with perfect masks in place of the network's.

    python bench/oracle.py --pairs FOLDER

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the mean SI-SDR and PESQ-WB
for several settings of Griffin-Lim (K iterations over M frames).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soxr
import typer
from common import PairsOption

from rtden import Denoiser, Settings
from rtden.files.audio_file import read_aligned
from rtden.measure.metrics import pesq_wb, si_sdr_db
from rtden.measure.pairs import find_pairs
from rtden.mel import MelBank
from rtden.model import ModelSpec, load_spec
from rtden.spectral import power, stft, window_pair
from rtden.types import Array

GRIFFIN_LIM = ((0, 1), (1, 2), (2, 2), (4, 2), (8, 2), (2, 4), (8, 4))


class Oracle:
    """A network that knows the clean signal: a mask is the root of clean over noisy power."""

    runtime, stateful, memory_columns = "none", True, 1

    def __init__(self, clean: Array, noisy: Array, spec: ModelSpec) -> None:
        self.spec, self._frame = spec, 0
        window, _ = window_pair(spec.n_fft, spec.hop, spec.longest_overlap)
        bank = MelBank(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
        padding = (spec.n_fft - spec.hop, 3 * spec.n_fft)
        views = np.lib.stride_tricks.sliding_window_view

        def mel(signal: Array) -> Array:
            frames = views(np.pad(signal, padding), spec.n_fft)[:: spec.hop]
            return bank(power(stft(frames, window)))

        clean_mel, noisy_mel = mel(clean), mel(noisy)
        self._perfect = np.sqrt(clean_mel / (noisy_mel + 1e-9)).clip(0.0, 1.0)

    def infer(self, columns: Array) -> Array:
        """Return the masks of the next columns."""
        start = self._frame
        self._frame += columns.shape[1]
        masks: Array = self._perfect[start : self._frame].T
        return masks

    def reset(self) -> None:
        """Begin again."""
        self._frame = 0


def score(pair: tuple[Path, Path]) -> list[tuple[float, float]]:
    """Return SI-SDR and PESQ-WB for each setting."""
    signals, pair_hz = read_aligned(*pair)
    rate_hz = Denoiser().rate_hz
    clean, noisy = (soxr.resample(signal, pair_hz, rate_hz) for signal in signals)
    result = []
    for iterations, frames in GRIFFIN_LIM:
        settings = Settings(iterations=iterations, frames=frames)
        denoiser = Denoiser(settings=settings, network=Oracle(clean, noisy, load_spec()))
        denoised = np.concatenate([denoiser.feed(noisy), denoiser.flush()])
        result.append((si_sdr_db(clean, denoised), pesq_wb(clean, denoised, rate_hz)))
    return result


def main(pairs: PairsOption) -> None:
    """Score perfect masks."""
    with ProcessPoolExecutor() as pool:
        means = np.mean(list(pool.map(score, find_pairs(pairs))), axis=0)
    for (iterations, frames), (si_sdr, pesq) in zip(GRIFFIN_LIM, means, strict=True):
        print(f"K {iterations}, M {frames}: SI-SDR {si_sdr:.2f} dB, PESQ-WB {pesq:.3f}")


if __name__ == "__main__":
    typer.run(main)
