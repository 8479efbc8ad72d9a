from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soxr
from properties import given, settings, st

from rtden.errors import InputError
from rtden.measure.metrics import distill_mos, dnsmos, dnsmos_p808, estoi, pesq_wb, si_sdr_db

RATE_HZ = 22050
CLEAN = np.array([1.0, -1.0, 1.0, -1.0])
OTHER = np.array([1.0, 1.0, -1.0, -1.0])  # as loud, orthogonal to CLEAN; both without mean


@pytest.mark.parametrize(
    ("estimate", "wanted_db"),
    [
        (CLEAN + 0.1 * OTHER, 20.0),
        (CLEAN + OTHER, 0.0),
        (0.5 * CLEAN + OTHER, 10 * math.log10(0.25)),
        (2 * CLEAN + 0.02 * OTHER, 40.0),
        (-CLEAN + 0.1 * OTHER, 20.0),
        (CLEAN + 0.1 * OTHER + 7.0, 20.0),
    ],
)
def test_si_sdr_equals_the_value_computed_by_hand(estimate: np.ndarray, wanted_db: float) -> None:
    assert si_sdr_db(CLEAN, estimate) == pytest.approx(wanted_db, abs=1e-9)


def test_si_sdr_of_a_signal_with_itself_is_infinite() -> None:
    assert si_sdr_db(CLEAN, CLEAN) == math.inf
    assert si_sdr_db(CLEAN, 0.5 * CLEAN) == math.inf


def test_si_sdr_of_what_has_nothing_of_the_clean_signal_is_very_low() -> None:
    assert si_sdr_db(CLEAN, OTHER) < -200.0
    assert si_sdr_db(CLEAN, np.zeros(4)) == -math.inf
    assert si_sdr_db(CLEAN, np.full(4, 0.3)) == -math.inf


@given(
    signal=st.lists(st.floats(-1, 1), min_size=8, max_size=40).filter(
        lambda values: np.std(values) > 1e-3
    ),
    seed=st.integers(0, 100),
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-2, 2),
)
@settings(max_examples=30)
def test_si_sdr_does_not_depend_on_scale_sign_or_offset(
    signal: list[float], seed: int, scale: float, offset: float
) -> None:
    clean = np.array(signal)
    estimate = clean + 0.3 * np.random.default_rng(seed).standard_normal(len(clean))
    expected = si_sdr_db(clean, estimate)
    assert si_sdr_db(clean, scale * estimate) == pytest.approx(expected, abs=1e-4)
    assert si_sdr_db(scale * clean, -estimate) == pytest.approx(expected, abs=1e-4)
    assert si_sdr_db(clean + offset, estimate - offset) == pytest.approx(expected, abs=1e-4)


def test_si_sdr_of_noise_at_a_known_level_is_that_level() -> None:
    rng = np.random.default_rng(0)
    clean, noise = rng.standard_normal((2, 200_000)).astype(np.float32)
    for snr_db in (-10.0, 0.0, 15.0):
        found_db = si_sdr_db(clean, clean + 10 ** (-snr_db / 20) * noise)
        assert found_db == pytest.approx(snr_db, abs=0.1)


@pytest.mark.parametrize(
    ("clean", "estimate", "message"),
    [
        (np.ones(4), np.ones(5), "two signals of one length"),
        (np.ones((4, 1)), np.ones((4, 1)), "two signals of one length"),
        (np.zeros(4), CLEAN, "silent reference"),
        (np.ones(4), CLEAN, "silent reference"),
    ],
)
def test_si_sdr_refuses_what_it_cannot_compare(
    clean: np.ndarray, estimate: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        si_sdr_db(clean, estimate)


def test_pesq_and_estoi_are_at_the_top_of_their_scales_for_the_clean_recording_and_fall_with_noise(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = (signal[: 5 * RATE_HZ] for signal in recordings)
    noisier = clean + 2.0 * (noisy - clean)
    pesq = [pesq_wb(clean, signal, RATE_HZ) for signal in (clean, noisy, noisier)]
    assert pesq[0] == pytest.approx(4.64, abs=0.01)
    assert pesq[0] - 1.0 > pesq[1] > pesq[2] >= 1.0
    intelligible = [estoi(clean, signal, RATE_HZ) for signal in (clean, noisy, noisier)]
    assert intelligible[0] == pytest.approx(1.0, abs=1e-3)
    assert intelligible[0] - 0.1 > intelligible[1] > intelligible[2] > 0.0


def test_pesq_does_not_depend_on_the_rate_at_which_the_signals_are_given(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = (signal[: 4 * RATE_HZ] for signal in recordings)
    slower = [soxr.resample(signal, RATE_HZ, 16000) for signal in (clean, noisy)]
    assert pesq_wb(slower[0], slower[1], 16000) == pytest.approx(  # type: ignore[call-arg]
        pesq_wb(clean, noisy, RATE_HZ), abs=1e-3
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0])
def test_pesq_is_nan_where_there_is_no_utterance(seconds: float) -> None:
    nothing = np.zeros(round(seconds * 16000), np.float32)
    assert math.isnan(pesq_wb(nothing, nothing, 16000))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", [pesq_wb, estoi])
@pytest.mark.parametrize("samples", [0, 1, 2205])
def test_pesq_and_estoi_are_nan_for_what_is_too_short_to_be_judged(
    metric: Callable[..., float], samples: int, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    clean, noisy = (signal[2 * RATE_HZ :][:samples] for signal in recordings)
    assert math.isnan(metric(clean, noisy, RATE_HZ))


@pytest.mark.parametrize("seconds", [4.6, 10.3])
def test_dnsmos_is_what_its_own_package_says(
    recordings: tuple[np.ndarray, np.ndarray], seconds: float
) -> None:
    theirs = pytest.importorskip("speechmos.dnsmos")

    _, noisy = recordings
    at_16_khz = soxr.resample(noisy, RATE_HZ, 16000)[: round(seconds * 16000)]
    expected = theirs.run(at_16_khz, 16000)
    wanted = [expected[f"{name}_mos"] for name in ("sig", "bak", "ovrl", "p808")]
    found = [*dnsmos(at_16_khz, 16000), dnsmos_p808(at_16_khz, 16000)]
    np.testing.assert_allclose(found, wanted, atol=2e-4)


JUDGES = [dnsmos, dnsmos_p808]
if importlib.util.find_spec("distillmos"):  # its torch is no requirement of the tests
    JUDGES.append(distill_mos)


@pytest.mark.parametrize("judge", JUDGES)
def test_judges_prefer_clean_speech_at_any_rate_and_level(
    judge: Callable[..., Any], recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    clean, noisy = (signal[2 * RATE_HZ : 7 * RATE_HZ] for signal in recordings)
    overall = [float(np.ravel(judge(signal, RATE_HZ))[-1]) for signal in (clean, noisy)]
    assert 5.0 >= overall[0] > overall[1] + 0.2 > 1.0
    assert 1.0 <= float(np.ravel(judge(20.0 * noisy, RATE_HZ))[-1]) <= 5.0
    assert np.isnan(judge(noisy[:1000], RATE_HZ)).all()


def test_dnsmos_judges_the_whole_of_a_long_file(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    clean, noisy = recordings
    noisy_end = np.concatenate([clean[: 10 * RATE_HZ], noisy[: 3 * RATE_HZ]])
    assert dnsmos(noisy_end, RATE_HZ)[1] < dnsmos(noisy_end[: 10 * RATE_HZ], RATE_HZ)[1] - 0.2
