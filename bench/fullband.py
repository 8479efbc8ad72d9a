"""What becomes of speech and of noise above 8 kHz, where training speech is scarce, and above 11 kHz, where the model ends.

    python bench/fullband.py RECORDING... [--model rtden] [--plot PICTURE] [--no-fullband]

RECORDINGS are clean speech with content as high as it goes, such as Debian's /usr/share/sounds/alsa/*_*.wav (package alsa-utils,
48 kHz). Prints, for each band, the level that comes out against what went in: of the speech, over the frames in which that band is
active; and of white noise at 15 dB below the speech, over the three seconds of it before each recording. Draws the
long-term spectra.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtden import StreamDenoiser
from rtden.spectral import hann, power, stft
from rtden.types import Array

BANDS_HZ = (
    (100, 1000),
    (1000, 4000),
    (4000, 8000),
    (8000, 9500),
    (9500, 11000),
    (11000, 14000),
    (14000, 20000),
)
N_FFT = 2048
ACTIVE_DB = 30.0
"""A frame of a band counts where it is at most so much below that band's loudest."""
NOISE_DB, NOISE_SECONDS, SETTLED_SECONDS = -15.0, 4.0, 1.0


def spectrogram(signal: Array) -> NDArray[np.float64]:
    """Return the power of a signal, shape (frames, bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, N_FFT)[:: N_FFT // 2]
    return power(stft(frames, hann(N_FFT))).astype(np.float64)


def main(
    recordings: Annotated[
        list[Path], typer.Argument(help="Clean full-band speech, of one sample rate.")
    ],
    model: Annotated[str | None, typer.Option(help="Model.")] = None,
    speed: Annotated[
        float,
        typer.Option(
            help="Play the recordings faster: 1.38 lifts what was recorded at 16 kHz to 11 kHz."
        ),
    ] = 1.0,
    full_band: Annotated[
        bool,
        typer.Option("--fullband/--no-fullband", help="Whether there is a way around the model."),
    ] = True,
    plot: Annotated[Path | None, typer.Option(help="Picture of the spectra.")] = None,
) -> None:
    """Compare spectra before and after the denoiser."""
    rng = np.random.default_rng(0)
    spectra: dict[str, list[NDArray[np.float64]]] = {
        "in": [],
        "out": [],
        "noise in": [],
        "noise out": [],
    }
    for path in recordings:
        samples, recorded_hz = soundfile.read(path, dtype="float32", always_2d=True)
        rate_hz = round(recorded_hz * speed)
        stream = StreamDenoiser(model, rate_hz=rate_hz, full_band=full_band)
        clean = samples.mean(axis=1, keepdims=True)
        spectra["in"].append(spectrogram(clean[:, 0]))
        spectra["out"].append(
            spectrogram(np.concatenate([stream.feed(clean), stream.flush()])[:, 0])
        )
        level = np.sqrt(np.mean(clean**2)) * 10.0 ** (NOISE_DB / 20.0)
        noise = level * rng.standard_normal((round(NOISE_SECONDS * rate_hz), 1), np.float32)
        denoised = np.concatenate([stream.feed(np.concatenate([noise, clean])), stream.flush()])
        settled = slice(round(SETTLED_SECONDS * rate_hz), len(noise) - N_FFT)
        spectra["noise in"].append(spectrogram(noise[settled, 0]))
        spectra["noise out"].append(spectrogram(denoised[settled, 0]))
    went_in, came_out, noise_in, noise_out = (np.concatenate(found) for found in spectra.values())
    bins_hz = np.arange(went_in.shape[1]) * rate_hz / N_FFT

    table = Table(
        "Band", "Active frames", "Speech, out against in", "Noise, out against in", box=None
    )
    for low_hz, high_hz in BANDS_HZ:
        if high_hz > rate_hz / 2:
            break
        inside = (bins_hz >= low_hz) & (bins_hz < high_hz)
        level = went_in[:, inside].sum(axis=1)
        active = level > level.max() * 10.0 ** (-ACTIVE_DB / 10.0)
        change_db = 10.0 * np.log10(
            (came_out[active][:, inside].sum() + 1e-20) / went_in[active][:, inside].sum()
        )
        lowered_db = 10.0 * np.log10(
            (noise_out[:, inside].sum() + 1e-20) / noise_in[:, inside].sum()
        )
        table.add_row(
            f"{low_hz} to {high_hz} Hz",
            str(int(active.sum())),
            f"{change_db:+.1f} dB",
            f"{lowered_db:+.1f} dB",
        )
    Console(soft_wrap=True, highlight=False).print(table)
    if plot is not None:
        figure = Figure(figsize=(9, 4), layout="constrained")
        axis = figure.subplots()
        for name, powers in (
            ("clean speech", went_in),
            ("after rtden", came_out),
            ("noise alone", noise_in),
            ("after rtden ", noise_out),
        ):
            axis.plot(bins_hz / 1000, 10.0 * np.log10(powers.mean(axis=0) + 1e-12), label=name)
        axis.axvspan(11.025, rate_hz / 2000, alpha=0.1, color="tab:green")
        axis.set(
            xlabel="Frequency (kHz)",
            ylabel="Long-term level (dB)",
            xlim=(0, rate_hz / 2000),
            ylim=(-90, None),
        )
        axis.legend()
        axis.grid(alpha=0.3)
        figure.savefig(plot, dpi=110)


if __name__ == "__main__":
    typer.run(main)
