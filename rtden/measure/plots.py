"""Pictures (extra "plot"). The package's only module that imports matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError
from rtden.extras import needed
from rtden.files.atomic import check_target, write_whole
from rtden.files.audio_file import open_recording, read_blocks
from rtden.measure.evaluation import NOISY, Evaluation
from rtden.measure.tables import LOSS_NOTE, marked
from rtden.mel import hz_to_mel, shared_mel_bank, to_db
from rtden.spectral import hann, power, stft
from rtden.types import Array

BANDS, LOWEST_HZ, HIGHEST_HZ = 96, 60.0, 16000.0
WINDOW, HOP = 2048, 1024
WIDEST_COLUMNS = 1200  # of a picture; those of a longer file are averaged
FLOOR_DB, RANGE_DB = -65.0, 70
PANEL_WIDTH_INCHES, PANELS_HEIGHT_INCHES = 2.75, 3.2
# Okabe and Ito's, which the colour-blind can tell apart; the markers differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = [{"color": c, "marker": m} for c, m in zip(COLOURS, "osD^vPX", strict=True)]
NOISY_STYLE = {"color": "#8a8a8a", "marker": "o", "linestyle": "dashed"}


def mel_levels_db(samples: Array, rate_hz: int) -> Array:
    """Return the mean level of sound, shape (samples,), in each mel band, from the lowest."""
    padded = np.pad(samples, (max(0, WINDOW - len(samples)), 0))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    bank = shared_mel_bank(rate_hz, WINDOW, BANDS, LOWEST_HZ, HIGHEST_HZ)
    return to_db(bank(power(stft(windows, hann(WINDOW)))).mean(axis=0), FLOOR_DB)


def mel_spectrogram(path: Path) -> tuple[Array, float]:
    """Return a file's mel spectrogram in dB, shape (BANDS, columns), and its length in seconds."""
    with open_recording(path) as recording:
        step = max(HOP, -(-recording.frames // WIDEST_COLUMNS))
        seen, columns, frames = np.zeros(0, np.float32), [], 0
        for block in read_blocks(recording, frames=step):
            frames += len(block)
            seen = np.concatenate([seen[HOP - WINDOW :], block.mean(axis=1)])
            columns.append(mel_levels_db(seen, recording.samplerate))
    if not columns:
        raise AudioFileError(f"{path} holds no sound to be drawn.")
    return np.stack(columns, axis=1), frames / recording.samplerate


def plot_mels(noisy: Path, denoised: Path, out: Path, *, force: bool = False) -> None:
    """Draw the mel spectrograms of a noisy and a denoised file side by side, on one scale."""
    check_picture(out, force=force)
    pictures = [mel_spectrogram(path) for path in (noisy, denoised)]
    loudest = max(float(mels.max()) for mels, _ in pictures)
    figure = new_figure(12.0, 4.5)
    axes = figure.subplots(1, 2, sharey=True)
    levels = {"vmin": loudest - RANGE_DB, "vmax": loudest, "cmap": "magma"}
    for axis, (mels, seconds), title in zip(axes, pictures, ("Noisy", "Denoised"), strict=True):
        extent = (0, seconds, 0, BANDS)
        image = axis.imshow(mels, origin="lower", aspect="auto", extent=extent, **levels)
        axis.set(title=title, xlabel="Time (s)")
    ticks_hz = np.array([250, 500, 1000, 2000, 4000, 8000, 16000])
    lowest, highest = hz_to_mel(np.array([LOWEST_HZ, HIGHEST_HZ]))
    at = (hz_to_mel(ticks_hz.astype(float)) - lowest) / (highest - lowest) * BANDS
    axes[0].set_yticks(at, [str(hz) for hz in ticks_hz])
    axes[0].set_ylabel("Frequency (Hz), mel bands")
    filled = [np.flatnonzero(mels.max(axis=1) > FLOOR_DB) for mels, _ in pictures]
    axes[0].set_ylim(0, 1 + max(int(bands.max(initial=0)) for bands in filled))
    figure.colorbar(image, ax=axes, label="Level (dB)")
    save(figure, out, force=force, dpi=110)


def plot_scores(evaluation: Evaluation, out: Path, *, force: bool = False) -> None:
    """Draw the mean of each headline metric by SNR, with bars of 95 % confidence."""
    check_picture(out, force=force)
    groups, shown, systems = evaluation.by_snr(), evaluation.headline, evaluation.systems
    found = [evaluation.figures(chosen) for chosen in groups.values()]
    means, halves = (np.array([of[name] for of in found]) for name in ("mean", "mean_ci95"))
    width = max(2, len(shown)) * PANEL_WIDTH_INCHES
    figure = new_figure(width, PANELS_HEIGHT_INCHES)
    for axis, column in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        for row, system in enumerate(systems):  # side by side, so that no bar hides another
            at = np.arange(len(groups)) + 0.06 * (row - (len(systems) - 1) / 2)
            style = STYLES[(row - 1) % len(STYLES)] if system != NOISY else NOISY_STYLE
            axis.errorbar(at, means[:, row, column], halves[:, row, column], label=system, **style)
        axis.set_title(marked(evaluation.metrics[column]), fontsize=10, loc="left")
        axis.set_xticks(range(len(groups)), [name.removesuffix(" dB") for name in groups])
        axis.grid(axis="y", alpha=0.3)
    note = f"{len(evaluation.files)} pairs; bars: 95 % confidence; {LOSS_NOTE}"
    figure.supxlabel(f"SNR of the noisy file (dB). {note}", fontsize=8)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=len(systems))
    save(figure, out, force=force, dpi=150)


def check_picture(out: Path, *, force: bool) -> None:
    """Raise an error now if a picture could not be written later."""
    formats = new_figure().canvas.get_supported_filetypes()
    check_target(out, force=force)
    if out.suffix[1:].lower() not in formats:
        raise AudioFileError(f"the name of the picture {out} must end in a format such as .png.")


def save(figure: Any, out: Path, *, force: bool, dpi: int) -> None:
    """Write a figure as a picture, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=out.suffix[1:].lower(), dpi=dpi)
    write_whole(out, drawn.getvalue(), force=force)


def new_figure(width_inches: float = 1.0, height_inches: float = 1.0) -> Any:
    """Return a figure of matplotlib that needs no display; MissingPackageError without it."""
    figure = needed("matplotlib.figure", "plot", "a picture").Figure
    return figure(figsize=(width_inches, height_inches), layout="constrained")
