"""How good the signal path could be: the streaming Denoiser with perfect shares in place of the network's.

    python bench/oracle.py --pairs FOLDER

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the mean SI-SDR and PESQ-WB for several settings of
Griffin-Lim (K iterations over M frames).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import typer

from rtden import Denoiser, Settings
from rtden.files.audio_file import read_aligned
from rtden.measure.metrics import pesq_wb, si_sdr_db
from rtden.mel import MelBank
from rtden.spectral import power, stft
from rtden.types import Array

GRIFFIN_LIM = ((0, 1), (1, 2), (2, 2), (4, 2), (8, 2), (2, 4), (8, 4))


class Oracle(Denoiser):
    """A denoiser that knows the clean signal: a band's gain is the root of its clean over its noisy power."""

    def __init__(self, clean: Array, noisy: Array, settings: Settings) -> None:
        super().__init__(settings=settings)
        spec = self.spec
        bank = MelBank(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
        padding = (spec.n_fft - spec.frame_hop, 3 * spec.n_fft)
        clean_mel, noisy_mel = (
            bank(
                power(
                    stft(
                        np.lib.stride_tricks.sliding_window_view(np.pad(s, padding), spec.n_fft)[
                            :: spec.frame_hop
                        ],
                        self._window,
                    )
                )
            )
            for s in (clean, noisy)
        )
        self._perfect = np.sqrt(clean_mel / (noisy_mel + 1e-9)).clip(0.0, 1.0)

    def _autoencoder(self) -> None:
        frame = self._frame_start // self.spec.frame_hop
        self._band_gains[...] = self._perfect[frame : frame + len(self._band_gains)]


def score(pair: tuple[Path, Path]) -> list[tuple[float, float]]:
    """Return SI-SDR and PESQ-WB for each setting."""
    signals, pair_hz = read_aligned(*pair)
    rate_hz = Denoiser().rate_hz
    clean, noisy = (soxr.resample(signal, pair_hz, rate_hz) for signal in signals)
    result = []
    for iterations, frames in GRIFFIN_LIM:
        oracle = Oracle(clean, noisy, Settings(iterations=iterations, frames=frames))
        denoised = np.concatenate([oracle.feed(noisy), oracle.flush()])
        result.append((si_sdr_db(clean, denoised), pesq_wb(clean, denoised, rate_hz)))
    return result


def main(pairs: Annotated[Path, typer.Option(help="Folder with clean/ and noisy/.")]) -> None:
    """Score perfect shares."""
    noisy = sorted((pairs / "noisy").iterdir())
    with ProcessPoolExecutor() as pool:
        means = np.mean(
            list(pool.map(score, [(pairs / "clean" / path.name, path) for path in noisy])), axis=0
        )
    for (iterations, frames), (si_sdr, pesq) in zip(GRIFFIN_LIM, means, strict=True):
        print(f"K {iterations}, M {frames}: SI-SDR {si_sdr:.2f} dB, PESQ-WB {pesq:.3f}")


if __name__ == "__main__":
    typer.run(main)
