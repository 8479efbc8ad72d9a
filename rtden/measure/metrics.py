"""How good a denoised signal is, against the clean one."""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtden.errors import InputError, MissingPackageError
from rtden.resample import load_soxr

SPEECH_RATE_HZ = 16000
"""The rate at which PESQ-WB and DNSMOS are defined."""
SHORTEST_SECONDS = 0.25
"""What is shorter is not judged by PESQ-WB and DNSMOS."""
DNSMOS_SAMPLES = 144160
"""What DNSMOS's network hears at once: 9.01 s at 16 kHz."""
DNSMOS_HOP_SAMPLES = SPEECH_RATE_HZ
DNSMOS_POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
"""By which the network's three answers become SIG, BAK and OVRL, as the DNS challenge fitted them; the square's factor first."""


def si_sdr_db(clean: ArrayLike, estimate: ArrayLike) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019).

    Parameters
    ----------
    clean, estimate : array_like, shape (samples,)
        Of the same length and aligned; means are taken off.

    Raises
    ------
    InputError
        If the lengths differ or the clean signal is silent.
    """
    target, signal = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
    if target.shape != signal.shape or target.ndim != 1:
        raise InputError(
            f"SI-SDR compares two signals of one length, not shapes {target.shape} and {signal.shape}."
        )
    target, signal = target - target.mean(), signal - signal.mean()
    energy = float(target @ target)
    if energy == 0.0:
        raise InputError("SI-SDR has no meaning for a silent reference.")
    if not signal.any():
        return -math.inf
    projection = target * float(signal @ target) / energy
    distortion = float(np.sum((signal - projection) ** 2))
    return (
        math.inf
        if distortion == 0.0
        else 10.0 * math.log10(max(float(projection @ projection), 1e-300) / distortion)
    )


def pesq_wb(clean: NDArray[np.float32], estimate: NDArray[np.float32], rate_hz: int) -> float:
    """Return PESQ-WB (ITU-T P.862.2, 1 to 4.64), by the package `pesq`; NaN where it finds no utterance.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        import pesq
    except ImportError:
        raise _missing("pesq") from None
    reference, degraded = (
        load_soxr().resample(s, rate_hz, SPEECH_RATE_HZ) for s in (clean, estimate)
    )
    if (
        len(reference) < SHORTEST_SECONDS * SPEECH_RATE_HZ
        or not reference.any()
        or not degraded.any()
    ):
        return math.nan
    try:
        return float(pesq.pesq(SPEECH_RATE_HZ, reference, degraded, "wb"))
    except pesq.NoUtterancesError:
        return math.nan


def stoi(
    clean: NDArray[np.float32],
    estimate: NDArray[np.float32],
    rate_hz: int,
    *,
    extended: bool = False,
) -> float:
    """Return STOI (Taal et al., 2011; 0 to 1), by the package `pystoi`; NaN where there is too little speech.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        import pystoi
    except ImportError:
        raise _missing("pystoi") from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clean, estimate, rate_hz, extended=extended))
        except (RuntimeWarning, ValueError):  # too little speech, or none
            return math.nan


def estoi(clean: NDArray[np.float32], estimate: NDArray[np.float32], rate_hz: int) -> float:
    """Return extended STOI (Jensen and Taal, 2016; 0 to 1), as :func:`stoi` does."""
    return stoi(clean, estimate, rate_hz, extended=True)


def dnsmos(estimate: NDArray[np.float32], rate_hz: int) -> tuple[float, float, float]:
    """Return DNSMOS P.835 (Reddy et al., 2022; 1 to 5): quality of the speech (SIG), of the background (BAK) and overall (OVRL).

    It needs no clean signal. The network comes with the package `speechmos`; it hears 9.01 s at a time, every second, and what
    is shorter is repeated, as that package does it. Its own function is not used: it takes all cores for each file, asks for
    librosa, and computes a fourth figure besides.

    Raises
    ------
    MissingPackageError
        If `speechmos` or `onnxruntime` is not installed.
    """
    session = _dnsmos_session()
    heard = np.clip(load_soxr().resample(estimate, rate_hz, SPEECH_RATE_HZ), -1.0, 1.0).astype(
        np.float32
    )
    if len(heard) < SHORTEST_SECONDS * SPEECH_RATE_HZ:
        return (math.nan,) * 3
    while len(heard) < DNSMOS_SAMPLES:
        heard = np.concatenate([heard, heard])
    starts = range(
        0,
        max(1, len(heard) // SPEECH_RATE_HZ * SPEECH_RATE_HZ - DNSMOS_SAMPLES + 1),
        DNSMOS_HOP_SAMPLES,
    )
    answers = [
        session.run(None, {"input_1": heard[None, start : start + DNSMOS_SAMPLES]})[0][0]
        for start in starts
    ]
    sig, bak, ovrl = (
        float(np.mean(np.polyval(polynomial, raw)))
        for polynomial, raw in zip(DNSMOS_POLYNOMIALS, np.transpose(answers), strict=True)
    )
    return sig, bak, ovrl


@functools.lru_cache(maxsize=1)
def _dnsmos_session() -> Any:
    """Return DNSMOS's network on one thread: as many processes as cores, each with as many threads, only wait for each other."""
    try:
        import onnxruntime
    except ImportError:
        raise _missing("onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(dnsmos_path(), options, providers=["CPUExecutionProvider"])


def dnsmos_path() -> Path:
    """Return the file that holds DNSMOS's network.

    Raises
    ------
    MissingPackageError
        If the package `speechmos` is not installed.
    """
    package = importlib.util.find_spec("speechmos")  # importing it would import librosa
    if package is None or package.origin is None:
        raise _missing("speechmos")
    return Path(package.origin).with_name("dnsmos_models") / "sig_bak_ovr.onnx"


def _missing(package: str) -> MissingPackageError:
    return MissingPackageError(
        f"the package {package} is not installed: run 'pip install rtden[eval]'."
    )
