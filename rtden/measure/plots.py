"""Pictures (extra ``plot``). The only module that imports matplotlib."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError, MissingPackageError
from rtden.files.audio_file import check_target, open_recording, read_blocks, write_whole
from rtden.measure.scores import NOISY, Evaluation
from rtden.mel import hz_to_mel, mel_filterbank, to_db
from rtden.model import ModelSpec, find_model, load_spec
from rtden.resample import Resampler
from rtden.spectral import hann, power, stft
from rtden.types import Array

WIDEST_COLUMNS = 1200
"""Columns of a picture; a longer recording's columns are averaged, so that its length does not matter."""

PANEL_WIDTH_INCHES, PANELS_HEIGHT_INCHES = 2.75, 3.2
NOISY_COLOUR = "#8a8a8a"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which can be told apart by the colour-blind too; the markers differ as well."""
MARKERS = "osD^vPX"


def mel_spectrogram(path: Path, spec: ModelSpec) -> tuple[Array, float]:
    """Return a recording's mel spectrogram in dB, shape (n_mels, columns), and its length in seconds; in constant memory.

    Raises
    ------
    AudioFileError
        If it cannot be read.
    """
    basis = mel_filterbank(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz).T
    window = hann(spec.n_fft)
    with open_recording(path) as recording:
        seconds = recording.frames / recording.samplerate
        pooled = max(1, -(-int(seconds * spec.rate_hz / spec.hop) // WIDEST_COLUMNS))
        resampler = Resampler(recording.samplerate, spec.rate_hz)
        columns, rest = [], np.zeros(spec.n_fft // 2, np.float32)
        span = pooled * spec.hop
        nothing = np.zeros((0, 1), np.float32)
        ends = np.zeros(spec.n_fft // 2, np.float32)
        for block in itertools.chain(
            (block.mean(axis=1, keepdims=True) for block in read_blocks(recording, path)), [None]
        ):
            ready = (
                resampler.feed(nothing, last=True)[:, 0]
                if block is None
                else resampler.feed(block)[:, 0]
            )
            rest = np.concatenate([rest, ready] if block is not None else [rest, ready, ends])
            while len(rest) >= span + spec.n_fft:
                frames = np.lib.stride_tricks.sliding_window_view(rest, spec.n_fft)[
                    : span : spec.hop
                ]
                columns.append(power(stft(frames, window)).mean(axis=0) @ basis)
                rest = rest[span:]
    if not columns:
        raise AudioFileError(
            f"{path} is too short to be drawn; it must hold at least {2 * (span + spec.n_fft) / spec.rate_hz:.2f} s."
        )
    return to_db(np.stack(columns, axis=1), spec.floor_db), seconds


def plot_mels(
    noisy: Path, denoised: Path, out: Path, *, model: str | Path | None = None, force: bool = False
) -> None:
    """Draw the mel spectrograms of a noisy and a denoised recording side by side, on one scale of level, into a picture.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    AudioFileError
        If a recording cannot be read, or the picture exists already (without `force`) or cannot be written.
    """
    figure_class = _figure_class()
    check_target(out, force=force)
    spec = load_spec(find_model(model))
    pictures = [
        (title, *mel_spectrogram(path, spec))
        for title, path in (("Noisy", noisy), ("Denoised", denoised))
    ]
    loudest = max(float(mels.max()) for _, mels, _ in pictures)
    figure = figure_class(figsize=(12, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (title, mels, seconds) in zip(axes, pictures, strict=True):
        image = axis.imshow(
            mels,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, spec.n_mels),
            vmin=loudest - 70,
            vmax=loudest,
            cmap="magma",
        )
        axis.set(title=title, xlabel="Time (s)")
    ticks_hz = [hz for hz in (0, 500, 1000, 2000, 4000, 8000) if spec.fmin_hz <= hz <= spec.fmax_hz]
    axes[0].set_yticks(_bands_at(ticks_hz, spec), [f"{hz:g}" for hz in ticks_hz])
    axes[0].set_ylabel(f"Frequency (Hz), {spec.n_mels} mel bands")
    figure.colorbar(image, ax=axes, label="Level (dB)")
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise AudioFileError(
            f"the picture {out} cannot be written ({error}); choose another place, with a name that ends in .png."
        ) from None


def check_picture(out: Path, *, force: bool) -> None:
    """Raise what would prevent a picture from being drawn there, before the work that it is to show.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    AudioFileError
        If the picture exists already (without `force`), or its name ends in no format of a picture.
    """
    figure_class = _figure_class()
    check_target(out, force=force)
    if out.suffix[1:].lower() not in figure_class().canvas.get_supported_filetypes():
        raise AudioFileError(
            f"the picture {out} has a name that tells no format; choose one that ends in .png."
        )


def plot_scores(evaluation: Evaluation, out: Path, *, force: bool = False) -> None:
    """Draw the mean of each headline metric by SNR, a line per system, with bars of 95 % confidence, into a picture.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    AudioFileError
        If the picture exists already (without `force`) or cannot be written.
    """
    check_picture(out, force=force)
    groups = evaluation.by_snr()
    means, halves = (
        np.array([statistic(chosen) for chosen in groups.values()])
        for statistic in (evaluation.means, evaluation.intervals)
    )
    headline, systems = evaluation.headline, evaluation.systems
    figure = _figure_class()(
        figsize=(max(2, len(headline)) * PANEL_WIDTH_INCHES, PANELS_HEIGHT_INCHES),
        layout="constrained",
    )
    lines: list[Any] = []
    # Side by side within a group, or the bars would hide each other.
    shifts = np.linspace(-0.5, 0.5, len(systems)) * min(0.36, 0.08 * len(systems))
    for axis, column in zip(np.ravel(figure.subplots(1, len(headline))), headline, strict=True):
        lines = []
        for row, system in enumerate(systems):
            style = {
                "color": NOISY_COLOUR,
                "linestyle": (0, (4, 2)),
                "marker": "o",
                "markerfacecolor": "white",
            }
            if system != NOISY:
                style = {
                    "color": COLOURS[(row - 1) % len(COLOURS)],
                    "marker": MARKERS[(row - 1) % len(MARKERS)],
                }
            at = np.arange(len(groups)) + shifts[row]
            lines.append(
                axis.errorbar(
                    at,
                    means[:, row, column],
                    halves[:, row, column],
                    markersize=4.5,
                    linewidth=1.6,
                    elinewidth=1.0,
                    **style,
                )
            )
        metric = evaluation.metrics[column]
        axis.set_title(
            "OVRL (DNSMOS)" if metric == "OVRL" else metric,
            fontsize=10,
            loc="left",
            fontweight="bold",
        )
        axis.set_xticks(range(len(groups)), [name.removesuffix(" dB") for name in groups])
        axis.set_xlim(-0.45, len(groups) - 0.55)
        axis.locator_params(axis="y", nbins=5)
        axis.tick_params(labelsize=8.5, length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color("#bbbbbb")
        axis.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.supxlabel("SNR of the noisy recording (dB)", fontsize=9)
    figure.legend(
        lines,
        systems,
        loc="outside upper left",
        ncols=len(systems),
        frameon=False,
        fontsize=9,
        handlelength=2.4,
        columnspacing=1.6,
    )
    figure.text(
        0.995,
        0.012,
        f"{len(evaluation.files)} pairs; bars: 95 % confidence",
        ha="right",
        fontsize=7.5,
        color="#777777",
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format=out.suffix[1:].lower(), dpi=150)
    write_whole(out, drawn.getvalue(), force=force)


def _bands_at(hz: list[int], spec: ModelSpec) -> list[float]:
    lowest, highest = hz_to_mel(np.array([spec.fmin_hz, spec.fmax_hz]))
    return [
        float(b)
        for b in (hz_to_mel(np.array(hz, float)) - lowest) / (highest - lowest) * spec.n_mels
    ]


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError(
            "matplotlib, which draws the pictures, is not installed: run 'pip install rtden[plot]'."
        ) from None
    return Figure
