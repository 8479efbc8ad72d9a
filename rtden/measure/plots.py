"""Pictures (extra "plot"). The package's only module that imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError
from rtden.files.atomic import check_target, write_whole
from rtden.files.audio_file import open_recording, read_blocks
from rtden.measure.evaluation import NOISY, Evaluation
from rtden.measure.metrics import needed
from rtden.measure.tables import LOSS_NOTE, marked
from rtden.mel import hz_to_mel, mel_filterbank, to_db
from rtden.model import ModelSpec, find_model, load_spec
from rtden.resample import Resampler
from rtden.spectral import hann, power, stft
from rtden.types import Array

WIDEST_COLUMNS = 1200
"""Columns of a picture; those of a longer file are averaged, so that its length does not matter."""
RANGE_DB = 70
PANEL_WIDTH_INCHES, PANELS_HEIGHT_INCHES = 2.75, 3.2
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart; the markers differ as well."""
STYLES = [{"color": c, "marker": m} for c, m in zip(COLOURS, "osD^vPX", strict=True)]
NOISY_STYLE = {"color": "#8a8a8a", "marker": "o", "linestyle": "dashed"}


def mel_spectrogram(path: Path, spec: ModelSpec) -> tuple[Array, float]:
    """Return a file's mel spectrogram in dB, shape (n_mels, columns), and its length in seconds.

    In constant memory. Raises AudioFileError if it cannot be read or is too short.
    """
    basis = mel_filterbank(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz).T
    window = hann(spec.n_fft)
    with open_recording(path) as recording:
        seconds = recording.frames / recording.samplerate
        span = spec.hop * max(1, -(-int(seconds * spec.rate_hz / spec.hop) // WIDEST_COLUMNS))
        columns, rest = [], np.zeros(0, np.float32)
        for samples in _resampled(recording, path, spec):
            rest = np.concatenate([rest, samples])
            while len(rest) >= span + spec.n_fft:
                frames = np.lib.stride_tricks.sliding_window_view(rest, spec.n_fft)
                columns.append(power(stft(frames[: span : spec.hop], window)).mean(axis=0) @ basis)
                rest = rest[span:]
    if not columns:
        least = 2 * (span + spec.n_fft) / spec.rate_hz
        raise AudioFileError(
            f"{path} is too short to be drawn; it must hold at least {least:.2f} s."
        )
    return to_db(np.stack(columns, axis=1), spec.floor_db), seconds


def _resampled(recording: Any, path: Path, spec: ModelSpec) -> Iterator[Array]:
    """Yield a file's mono sound at the model's rate, half a frame of silence before and behind."""
    edge = np.zeros(spec.n_fft // 2, np.float32)
    resampler = Resampler(recording.samplerate, spec.rate_hz)
    yield edge
    for block in read_blocks(recording, path):
        yield resampler.feed(block.mean(axis=1, keepdims=True))[:, 0]
    yield resampler.feed(np.zeros((0, 1), np.float32), last=True)[:, 0]
    yield edge


def plot_mels(
    noisy: Path, denoised: Path, out: Path, *, model: str | Path | None = None, force: bool = False
) -> None:
    """Draw the mel spectrograms of a noisy and a denoised file side by side, on one scale.

    Raises MissingPackageError without matplotlib; AudioFileError if a file cannot be read, or the
    picture exists (without `force`) or cannot be written.
    """
    check_picture(out, force=force)
    spec = load_spec(find_model(model))
    pictures = [mel_spectrogram(path, spec) for path in (noisy, denoised)]
    loudest = max(float(mels.max()) for mels, _ in pictures)
    figure = new_figure(12.0, 4.5)
    axes = figure.subplots(1, 2, sharey=True)
    levels = {"vmin": loudest - RANGE_DB, "vmax": loudest, "cmap": "magma"}
    for axis, (mels, seconds), title in zip(axes, pictures, ("Noisy", "Denoised"), strict=True):
        extent = (0, seconds, 0, spec.n_mels)
        image = axis.imshow(mels, origin="lower", aspect="auto", extent=extent, **levels)
        axis.set(title=title, xlabel="Time (s)")
    ticks_hz = [hz for hz in (0, 500, 1000, 2000, 4000, 8000) if spec.fmin_hz <= hz <= spec.fmax_hz]
    lowest, highest = hz_to_mel(np.array([spec.fmin_hz, spec.fmax_hz]))
    bands = (hz_to_mel(np.array(ticks_hz, float)) - lowest) / (highest - lowest) * spec.n_mels
    axes[0].set_yticks(bands, [f"{hz:g}" for hz in ticks_hz])
    axes[0].set_ylabel(f"Frequency (Hz), {spec.n_mels} mel bands")
    figure.colorbar(image, ax=axes, label="Level (dB)")
    save(figure, out, force=force, dpi=110)


def plot_scores(evaluation: Evaluation, out: Path, *, force: bool = False) -> None:
    """Draw the mean of each headline metric by SNR, with bars of 95 % confidence.

    Raises as :func:`plot_mels` does.
    """
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
    """Raise what would prevent a picture from being drawn, before the work that it is to show.

    That is: no matplotlib, a picture that exists (without `force`), a name without a known format.
    """
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
    figure = needed("matplotlib.figure", "plot").Figure
    return figure(figsize=(width_inches, height_inches), layout="constrained")
