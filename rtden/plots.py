"""Pictures (extra ``plot``). The only module that imports matplotlib."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError, MissingPackageError
from rtden.files import check_target, open_recording, read_blocks
from rtden.mel import Array, hann, hz_to_mel, mel_filterbank, power, stft, to_db
from rtden.resample import Resampler
from rtden.sidecar import ModelSpec, find_model, load_spec

WIDEST_COLUMNS = 1200
"""Columns of a picture; a longer recording's columns are averaged, so that its length does not matter."""


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
        for block in itertools.chain((block.mean(axis=1, keepdims=True) for block in read_blocks(recording, path)), [None]):
            ready = resampler.feed(nothing, last=True)[:, 0] if block is None else resampler.feed(block)[:, 0]
            rest = np.concatenate([rest, ready] if block is not None else [rest, ready, ends])
            while len(rest) >= span + spec.n_fft:
                frames = np.lib.stride_tricks.sliding_window_view(rest, spec.n_fft)[: span : spec.hop]
                columns.append(power(stft(frames, window)).mean(axis=0) @ basis)
                rest = rest[span:]
    if not columns:
        raise AudioFileError(f"{path} is too short to be drawn; it must hold at least {2 * (span + spec.n_fft) / spec.rate_hz:.2f} s.")
    return to_db(np.stack(columns, axis=1), spec.floor_db), seconds


def plot_mels(noisy: Path, denoised: Path, out: Path, *, model: str | Path | None = None, force: bool = False) -> None:
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
    pictures = [(title, *mel_spectrogram(path, spec)) for title, path in (("Noisy", noisy), ("Denoised", denoised))]
    loudest = max(float(mels.max()) for _, mels, _ in pictures)
    figure = figure_class(figsize=(12, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (title, mels, seconds) in zip(axes, pictures, strict=True):
        image = axis.imshow(mels, origin="lower", aspect="auto", extent=(0, seconds, 0, spec.n_mels), vmin=loudest - 70, vmax=loudest, cmap="magma")
        axis.set(title=title, xlabel="Time (s)")
    ticks_hz = [hz for hz in (0, 500, 1000, 2000, 4000, 8000) if spec.fmin_hz <= hz <= spec.fmax_hz]
    axes[0].set_yticks(_bands_at(ticks_hz, spec), [f"{hz:g}" for hz in ticks_hz])
    axes[0].set_ylabel(f"Frequency (Hz), {spec.n_mels} mel bands")
    figure.colorbar(image, ax=axes, label="Level (dB)")
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise AudioFileError(f"the picture {out} cannot be written ({error}); choose another place, with a name that ends in .png.") from None


def _bands_at(hz: list[int], spec: ModelSpec) -> list[float]:
    lowest, highest = hz_to_mel(np.array([spec.fmin_hz, spec.fmax_hz]))
    return [float(b) for b in (hz_to_mel(np.array(hz, float)) - lowest) / (highest - lowest) * spec.n_mels]


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("matplotlib, which draws the pictures, is not installed: run 'pip install rtden[plot]'.") from None
    return Figure
