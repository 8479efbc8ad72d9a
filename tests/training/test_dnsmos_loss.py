from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from rtden.errors import MissingPackageError
from rtden.measure.metrics import DNSMOS_SAMPLES, P808_HOP, SPEECH_RATE_HZ, dnsmos, dnsmos_p808
from rtden.resample import load_soxr
from rtden.training.dnsmos_loss import DnsmosLoss, P808Loss
from rtden.types import Array


@pytest.fixture
def nine_seconds(recordings: tuple[Array, Array]) -> list[Array]:
    """Return clean and noisy speech, as long as DNSMOS scores it."""
    clean, noisy = (
        load_soxr().resample(signal, 22050, SPEECH_RATE_HZ)[:DNSMOS_SAMPLES].astype(np.float32)
        for signal in recordings
    )
    return [np.resize(signal, DNSMOS_SAMPLES) for signal in (clean, noisy)]


def at_22050(signals: list[Array]) -> Array:
    resampled = [load_soxr().resample(signal, SPEECH_RATE_HZ, 22050) for signal in signals]
    return np.stack(resampled).astype(np.float32)


def test_it_says_what_dnsmos_says_also_at_the_models_rate(nine_seconds: list[Array]) -> None:
    found = np.asarray(DnsmosLoss(SPEECH_RATE_HZ)(np.stack(nine_seconds)))
    expected = [dnsmos(signal, SPEECH_RATE_HZ) for signal in nine_seconds]
    np.testing.assert_allclose(
        found, expected, atol=5e-3
    )  # where the clean recording is silent, its bins are what rounding leaves
    ours = np.asarray(DnsmosLoss(22050)(at_22050(nine_seconds)))
    np.testing.assert_allclose(ours, found, atol=0.1)


def test_it_says_what_p808_says_also_at_the_models_rate(nine_seconds: list[Array]) -> None:
    scored = np.stack(nine_seconds)[:, :-P808_HOP]
    found = np.asarray(P808Loss(SPEECH_RATE_HZ)(scored))
    expected = [dnsmos_p808(signal, SPEECH_RATE_HZ) for signal in nine_seconds]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(np.asarray(P808Loss(SPEECH_RATE_HZ)(0.1 * scored)), found, atol=1e-3)
    np.testing.assert_allclose(np.asarray(P808Loss(22050)(at_22050(nine_seconds))), found, atol=0.1)


def test_they_like_clean_speech_better(recordings: tuple[Array, Array]) -> None:
    clean, noisy = (signal[None, : 4 * 22050] for signal in recordings)
    ovrl = [float(DnsmosLoss(22050)(signal)[0, 2]) for signal in (clean, noisy)]
    p808 = [float(P808Loss(22050)(signal)[0]) for signal in (clean, noisy)]
    assert ovrl[0] > ovrl[1] + 0.5
    assert p808[0] > p808[1] + 0.5


@pytest.mark.parametrize("judge", [DnsmosLoss, P808Loss])
def test_without_onnx_they_say_what_to_install(
    judge: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match="training needs the package onnx"):
        judge(22050)
