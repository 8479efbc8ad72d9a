from __future__ import annotations

import numpy as np
import pytest
from training_target import powers

from rtden.measure.metrics import estoi
from rtden.training.stoi_loss import FRAME_SECONDS, StoiLoss
from rtden.training.synthesis import active_rms
from rtden.types import Array

RATE_HZ = 22050
N_FFT = 2 * round(FRAME_SECONDS * RATE_HZ / 2)
MEASURE = StoiLoss(RATE_HZ, N_FFT)
EVERYTHING = np.ones((1, N_FFT // 2 + 1), np.float32)


def understood(ours: Array, clean: Array, valid_bins: Array = EVERYTHING) -> tuple[float, float]:
    level = active_rms(clean)
    found, known = MEASURE(powers(N_FFT, ours / level), powers(N_FFT, clean / level), valid_bins)
    return float(found[0]), float(known[0])


def test_its_bands_are_third_octaves() -> None:
    bins_hz = np.arange(N_FFT // 2 + 1) * (RATE_HZ / N_FFT)
    within = [bins_hz[band > 0] for band in MEASURE.to_bands.T]
    assert len(within) == 15
    assert within[0].min() > 133
    assert within[-1].max() < 4280
    assert (MEASURE.to_bands.sum(axis=1) <= 1).all()


def test_what_is_the_same_is_understood_whole(recordings: tuple[Array, Array]) -> None:
    assert understood(recordings[0], recordings[0])[0] == pytest.approx(1.0, abs=1e-3)
    assert understood(0.3 * recordings[0], recordings[0])[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.12])
def test_it_is_near_extended_stoi(recordings: tuple[Array, Array], share: float) -> None:
    clean, noisy = (signal[: 8 * RATE_HZ] for signal in recordings)
    ours = clean + np.float32(share) * (noisy - clean)
    assert understood(ours, clean)[0] == pytest.approx(estoi(clean, ours, RATE_HZ), abs=0.03)


def test_pauses_do_not_count(recordings: tuple[Array, Array], rng: np.random.Generator) -> None:
    clean, noisy = (signal[: 4 * RATE_HZ] for signal in recordings)
    pause = np.zeros(200 * (N_FFT // 2), np.float32)
    noise = 0.1 * rng.standard_normal(len(pause)).astype(np.float32)
    with_pause = understood(np.concatenate([noise, noisy]), np.concatenate([pause, clean]))
    assert with_pause[0] == pytest.approx(understood(noisy, clean)[0], abs=0.02)


def test_bands_that_a_recording_does_not_hold_do_not_count(recordings: tuple[Array, Array]) -> None:
    clean, noisy = (signal[: 4 * RATE_HZ] for signal in recordings)
    bins_hz = np.arange(N_FFT // 2 + 1) * (RATE_HZ / N_FFT)
    below = (bins_hz < 2000.0).astype(np.float32)[None]
    level = active_rms(clean)
    ours, theirs = powers(N_FFT, noisy / level), powers(N_FFT, clean / level)
    found = float(MEASURE(ours, theirs, below)[0][0])
    assert found == pytest.approx(
        float(MEASURE(np.where(below[:, None] > 0, ours, 7.0), theirs, below)[0][0]), abs=1e-6
    )
    assert found != pytest.approx(understood(noisy, clean)[0], abs=1e-3)


def test_too_little_speech_is_told() -> None:
    beep = np.zeros(4 * RATE_HZ, np.float32)
    beep[1000:3000] = np.sin(np.arange(2000))
    assert understood(beep, beep) == (0.0, 0.0)
