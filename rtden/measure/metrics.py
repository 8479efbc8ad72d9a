"""Metrics of denoised signals, with or without the clean signal as a reference.

A metric whose package is not installed raises MissingPackageError.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rtden.errors import InputError
from rtden.extras import missing, needed
from rtden.mel import mel_filterbank, to_db
from rtden.resample import load_soxr
from rtden.spectral import hann, power, stft
from rtden.types import Array

SPEECH_RATE_HZ = 16000  # the rate of PESQ-WB, DNSMOS, DistillMOS and Whisper
SHORTEST_SECONDS = 0.25  # PESQ-WB, DNSMOS and DistillMOS take no shorter signals
DNSMOS_SAMPLES = 144160  # input length of DNSMOS's networks: 9.01 s at 16 kHz
DNSMOS_POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
"""Polynomials from the network's outputs to SIG, BAK and OVRL (DNS challenge), squares first."""
DNSMOS_P835, DNSMOS_P808 = "sig_bak_ovr.onnx", "model_v8.onnx"  # files of the networks
P808_N_FFT, P808_HOP = 321, 160


def si_sdr_db(clean: ArrayLike, estimate: ArrayLike) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019).

    Both have shape (samples,). Raises InputError for other shapes or a silent clean signal.
    """
    target, signal = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
    if target.shape != signal.shape or target.ndim != 1:
        shapes = f"{target.shape} and {signal.shape}"
        raise InputError(f"SI-SDR compares two signals of one length, not shapes {shapes}.")
    target, signal = target - target.mean(), signal - signal.mean()
    energy = float(target @ target)
    if energy == 0.0:
        raise InputError("SI-SDR has no meaning for a silent reference.")
    if not signal.any():
        return -math.inf
    projection = target * float(signal @ target) / energy
    distortion = float(np.sum((signal - projection) ** 2))
    if distortion == 0.0:
        return math.inf
    return 10.0 * math.log10(max(float(projection @ projection), 1e-300) / distortion)


def pesq_wb(clean: Array, estimate: Array, rate_hz: int) -> float:
    """Return PESQ-WB (ITU-T P.862.2, 1 to 4.64), by the package `pesq`; NaN without speech."""
    pesq = needed("pesq", "eval", "PESQ")
    reference, degraded = (at_speech_rate(signal, rate_hz) for signal in (clean, estimate))
    long_enough = len(reference) >= SHORTEST_SECONDS * SPEECH_RATE_HZ
    if not (long_enough and reference.any() and degraded.any()):
        return math.nan
    try:
        return float(pesq.pesq(SPEECH_RATE_HZ, reference, degraded, "wb"))
    except pesq.NoUtterancesError:
        return math.nan


def estoi(clean: Array, estimate: Array, rate_hz: int) -> float:
    """Return extended STOI (Jensen and Taal, 2016; 0 to 1); NaN for too little speech."""
    pystoi = needed("pystoi", "eval", "ESTOI")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clean, estimate, rate_hz, extended=True))
        except (RuntimeWarning, ValueError):  # too little speech
            return math.nan


def dnsmos(estimate: Array, rate_hz: int) -> tuple[float, float, float]:
    """Return DNSMOS P.835 (Reddy et al., 2022; 1 to 5): SIG, BAK and OVRL; NaN for too short sound.

    The network comes with the package `speechmos`, whose own function takes all cores.
    """
    session = _dnsmos_session(DNSMOS_P835)
    raw = [session.run(None, {"input_1": part[None]})[0][0] for part in _parts(estimate, rate_hz)]
    if not raw:
        return math.nan, math.nan, math.nan
    fits = map(np.polyval, DNSMOS_POLYNOMIALS, np.transpose(raw))
    sig, bak, ovrl = (float(np.mean(values)) for values in fits)
    return sig, bak, ovrl


def dnsmos_p808(estimate: Array, rate_hz: int) -> float:
    """Return DNSMOS P.808 (Reddy et al., 2021; 1 to 5), overall quality; NaN if too short."""
    session = _dnsmos_session(DNSMOS_P808)
    mels = [_p808_mels(part[:-P808_HOP])[None] for part in _parts(estimate, rate_hz)]
    scores = [float(session.run(None, {"input_1": mel})[0][0][0]) for mel in mels]
    return float(np.mean(scores)) if scores else math.nan


def _p808_mels(samples: Array) -> Array:
    """Return the input of DNSMOS P.808, shape (columns, 120), as librosa's default would."""
    padded = np.pad(samples, P808_N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, P808_N_FFT)[::P808_HOP]
    mels = power(stft(frames, hann(P808_N_FFT))) @ p808_bank().T
    level_db = to_db(mels, -100.0)
    level_db = np.maximum(level_db - level_db.max(), -80.0)
    scaled: Array = ((level_db + 40.0) / 40.0).astype(np.float32)
    return scaled


def p808_bank() -> Array:
    """Return the mel filters of DNSMOS P.808, shape (120, bins)."""
    return mel_filterbank(SPEECH_RATE_HZ, P808_N_FFT, 120, 0.0, SPEECH_RATE_HZ / 2)


def _parts(estimate: Array, rate_hz: int) -> list[Array]:
    """Return the excerpts of 9.01 s that DNSMOS scores, a second apart; repeats shorter sound."""
    samples = np.clip(at_speech_rate(estimate, rate_hz), -1.0, 1.0).astype(np.float32)
    if len(samples) < SHORTEST_SECONDS * SPEECH_RATE_HZ:
        return []
    while len(samples) < DNSMOS_SAMPLES:
        samples = np.concatenate([samples, samples])
    last = len(samples) // SPEECH_RATE_HZ * SPEECH_RATE_HZ - DNSMOS_SAMPLES
    starts = range(0, max(0, last) + 1, SPEECH_RATE_HZ)
    return [samples[start : start + DNSMOS_SAMPLES] for start in starts]


@functools.lru_cache(maxsize=2)
def _dnsmos_session(name: str) -> Any:
    """Return a network of DNSMOS on one thread: scoring runs a process on every core."""
    onnxruntime = needed("onnxruntime", "eval", "DNSMOS")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(dnsmos_path(name), options, providers=providers)


def dnsmos_path(name: str) -> Path:
    """Return the file of a network of DNSMOS."""
    package = importlib.util.find_spec("speechmos")  # importing it would import librosa
    if package is None or package.origin is None:
        raise missing("speechmos", "eval", "DNSMOS")
    return Path(package.origin).with_name("dnsmos_models") / name


def distill_mos(estimate: Array, rate_hz: int) -> float:
    """Return DistillMOS (Stahl and Gamper, 2025; 1 to 5), overall quality; NaN if too short."""
    network, torch = _distill_mos_network()
    samples = at_speech_rate(estimate, rate_hz)
    if len(samples) < SHORTEST_SECONDS * SPEECH_RATE_HZ:
        return math.nan
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return float(network(torch.from_numpy(samples[None])))
    finally:
        torch.set_num_threads(threads)


@functools.lru_cache(maxsize=1)
def _distill_mos_network() -> tuple[Any, Any]:
    distillmos, torch = (needed(name, "judge", "DistillMOS") for name in ("distillmos", "torch"))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        network = distillmos.ConvTransformerSQAModel()
    return network.eval(), torch


def at_speech_rate(samples: Array, rate_hz: int) -> Array:
    """Return a signal resampled to 16 kHz, shape (samples,), float32."""
    resampled: Array = load_soxr().resample(samples, rate_hz, SPEECH_RATE_HZ)
    return resampled
