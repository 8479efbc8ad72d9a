from __future__ import annotations

import sys

import numpy as np
import pytest

from rtden.errors import MissingPackageError
from rtden.measure.metrics import DNSMOS_SAMPLES, SPEECH_RATE_HZ, dnsmos
from rtden.resample import load_soxr
from rtden.training.dnsmos_loss import DnsmosLoss
from rtden.types import Array


def test_it_says_what_dnsmos_says_also_at_the_models_rate(recordings: tuple[Array, Array]) -> None:
    clean, noisy = (
        load_soxr().resample(signal, 22050, SPEECH_RATE_HZ)[:DNSMOS_SAMPLES].astype(np.float32)
        for signal in recordings
    )
    both = (clean, noisy, (clean + noisy) / 2)
    nine_seconds = [np.resize(signal, DNSMOS_SAMPLES) for signal in both]
    found = np.asarray(DnsmosLoss(SPEECH_RATE_HZ)(np.stack(nine_seconds)))
    expected = [dnsmos(signal, SPEECH_RATE_HZ) for signal in nine_seconds]
    np.testing.assert_allclose(
        found, expected, atol=5e-3
    )  # where the clean recording is silent, its bins are what rounding leaves
    at_22050 = np.stack(
        [load_soxr().resample(signal, SPEECH_RATE_HZ, 22050) for signal in nine_seconds]
    ).astype(np.float32)
    np.testing.assert_allclose(np.asarray(DnsmosLoss(22050)(at_22050)), found, atol=0.1)


def test_it_likes_clean_speech_better(recordings: tuple[Array, Array]) -> None:
    clean, noisy = (signal[None, : 4 * 22050] for signal in recordings)
    clean_scores, noisy_scores = (
        np.asarray(DnsmosLoss(22050)(signal))[0] for signal in (clean, noisy)
    )
    assert clean_scores[2] > noisy_scores[2] + 0.5


def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match="training needs the package onnx"):
        DnsmosLoss(22050)
