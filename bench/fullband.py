"""What becomes of speech above 8 kHz, where training speech is scarce.

    python bench/fullband.py RECORDING... [--model rtden] [--plot PICTURE]

RECORDINGS are clean speech with content up to 11 kHz or more. Prints, for each band, the level of clean speech that comes out
against what went in, over the frames in which that band is active, and draws the long-term spectra.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtden import Denoiser
from rtden.mel import Array, hann, power, stft

BANDS_HZ = ((100, 1000), (1000, 4000), (4000, 8000), (8000, 9500), (9500, 11000))
ACTIVE_DB = 30.0
"""A frame of a band counts where it is at most so much below that band's loudest."""


def spectrogram(signal: Array, denoiser: Denoiser) -> NDArray[np.float64]:
    """Return the power of a signal, shape (frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, denoiser.spec.n_fft)[:: denoiser.spec.hop]
    return power(stft(frames, hann(denoiser.spec.n_fft))).astype(np.float64)


def main(
    recordings: Annotated[list[Path], typer.Argument(help="Clean full-band speech.")],
    model: Annotated[str | None, typer.Option(help="Model.")] = None,
    speed: Annotated[float, typer.Option(help="Play the recordings faster: 1.38 lifts what was recorded at 16 kHz to 11 kHz.")] = 1.0,
    plot: Annotated[Path | None, typer.Option(help="Picture of the spectra.")] = None,
) -> None:
    """Compare spectra of clean speech before and after the denoiser."""
    denoiser = Denoiser(model)
    before, after = [], []
    for path in recordings:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        clean = soxr.resample(samples.mean(axis=1), round(rate_hz * speed), denoiser.rate_hz)
        before.append(spectrogram(clean, denoiser))
        after.append(spectrogram(np.concatenate([denoiser.feed(clean), denoiser.flush()]), denoiser))
    went_in, came_out = np.concatenate(before), np.concatenate(after)
    bins_hz = np.arange(went_in.shape[1]) * denoiser.rate_hz / denoiser.spec.n_fft

    table = Table("Band", "Active frames", "Out against in", box=None)
    for low_hz, high_hz in BANDS_HZ:
        inside = (bins_hz >= low_hz) & (bins_hz < high_hz)
        level = went_in[:, inside].sum(axis=1)
        active = level > level.max() * 10.0 ** (-ACTIVE_DB / 10.0)
        change_db = 10.0 * np.log10(came_out[active][:, inside].sum() / went_in[active][:, inside].sum())
        table.add_row(f"{low_hz} to {high_hz} Hz", str(int(active.sum())), f"{change_db:+.1f} dB")
    Console(soft_wrap=True, highlight=False).print(table)
    if plot is not None:
        figure = Figure(figsize=(9, 4), layout="constrained")
        axis = figure.subplots()
        for name, spectra in (("clean speech", went_in), ("after rtden", came_out)):
            axis.plot(bins_hz / 1000, 10.0 * np.log10(spectra.mean(axis=0) + 1e-12), label=name)
        axis.axvspan(8, 11.025, alpha=0.1, color="tab:green")
        axis.set(xlabel="Frequency (kHz)", ylabel="Long-term level (dB)", xlim=(0, 11.025))
        axis.legend()
        axis.grid(alpha=0.3)
        figure.savefig(plot, dpi=110)


if __name__ == "__main__":
    typer.run(main)
