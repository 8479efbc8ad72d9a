"""What rtden does above 8 kHz, where training speech is scarce, and above 11 kHz, its model's end.

    python bench/fullband.py FILE... [--plot PICTURE]

FILES are clean speech with content as high as it goes, such as Debian's
/usr/share/sounds/alsa/*_*.wav (package alsa-utils, 48 kHz). Prints, for each band, the level of
the output against the input: of speech, over the frames in which that band is active; and of white
noise 15 dB below the speech, over the three seconds of it before each file. Draws the long-term
spectra.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from common import screen
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from rtden import StreamDenoiser
from rtden.spectral import hann, power, stft
from rtden.types import Array

EDGES_HZ = (100, 1000, 4000, 8000, 9500, 11000, 14000, 20000)
N_FFT = 2048
ACTIVE_DB = 30.0
"""A frame of a band counts where it is at most this far below that band's loudest."""
NOISE_DB, NOISE_SECONDS, SETTLED_SECONDS = -15.0, 4.0, 1.0

Spectra = dict[str, list[NDArray[np.float64]]]


def spectrogram(signal: Array) -> NDArray[np.float64]:
    """Return the power of a signal, shape (frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, N_FFT)[:: N_FFT // 2]
    return power(stft(frames, hann(N_FFT))).astype(np.float64)


def add_spectra(spectra: Spectra, path: Path) -> int:
    """Add the spectra of a file, of noise before it, and of both denoised; return the rate."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    stream = StreamDenoiser(rate_hz=rate_hz)
    clean = samples.mean(axis=1, keepdims=True)
    level = np.sqrt(np.mean(clean**2)) * 10.0 ** (NOISE_DB / 20.0)
    white = np.random.default_rng(0).standard_normal((round(NOISE_SECONDS * rate_hz), 1))
    noise = (level * white).astype(np.float32)
    settled = slice(round(SETTLED_SECONDS * rate_hz), len(noise) - N_FFT)
    alone = np.concatenate([stream.feed(clean), stream.flush()])
    behind = np.concatenate([stream.feed(np.concatenate([noise, clean])), stream.flush()])
    for name, signal in (
        ("speech in", clean),
        ("speech out", alone),
        ("noise in", noise[settled]),
        ("noise out", behind[settled]),
    ):
        spectra.setdefault(name, []).append(spectrogram(signal[:, 0]))
    return int(rate_hz)


def table_of(powers: dict[str, NDArray[np.float64]], bins_hz: NDArray[np.float64]) -> Table:
    """Return the changes of each band."""
    table = Table("Band", "Active frames", "Speech, out against in", "Noise, out against in")
    table.box = None
    for low_hz, high_hz in itertools.pairwise(EDGES_HZ):
        if high_hz > bins_hz[-1]:
            break
        inside = (bins_hz >= low_hz) & (bins_hz < high_hz)
        level = powers["speech in"][:, inside].sum(axis=1)
        active = level > level.max() * 10.0 ** (-ACTIVE_DB / 10.0)
        changes_db = [
            10.0 * np.log10((out[:, inside].sum() + 1e-20) / given[:, inside].sum())
            for out, given in (
                (powers["speech out"][active], powers["speech in"][active]),
                (powers["noise out"], powers["noise in"]),
            )
        ]
        changes = [f"{change_db:+.1f} dB" for change_db in changes_db]
        table.add_row(f"{low_hz} to {high_hz} Hz", str(int(active.sum())), *changes)
    return table


def draw(powers: dict[str, NDArray[np.float64]], bins_hz: NDArray[np.float64], out: Path) -> None:
    """Draw the long-term spectra."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axis = figure.subplots()
    for name, found in powers.items():
        axis.plot(bins_hz / 1000, 10.0 * np.log10(found.mean(axis=0) + 1e-12), label=name)
    axis.axvspan(11.025, bins_hz[-1] / 1000, alpha=0.1, color="tab:green")
    axis.set(xlabel="Frequency (kHz)", ylabel="Long-term level (dB)", ylim=(-90, None))
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def main(
    files: Annotated[list[Path], typer.Argument(help="Clean full-band speech, of one rate.")],
    plot: Annotated[Path | None, typer.Option(help="Picture of the spectra.")] = None,
) -> None:
    """Compare spectra before and after the denoiser."""
    spectra: Spectra = {}
    for path in files:
        rate_hz = add_spectra(spectra, path)
    powers = {name: np.concatenate(found) for name, found in spectra.items()}
    bins_hz = np.arange(N_FFT // 2 + 1) * rate_hz / N_FFT
    screen.print(table_of(powers, bins_hz))
    if plot is not None:
        draw(powers, bins_hz, plot)


if __name__ == "__main__":
    typer.run(main)
