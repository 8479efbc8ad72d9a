from __future__ import annotations

import numpy as np
import pytest
from training_target import powers

from rtden.measure.metrics import pesq_wb
from rtden.training.pesq_loss import PesqLoss, bark, threshold_db_spl
from rtden.training.synthesis import active_rms
from rtden.types import Array

RATE_HZ, N_FFT = 22050, 704
DISTURBANCE = PesqLoss(RATE_HZ, N_FFT)
EVERYTHING = np.ones((1, N_FFT // 2 + 1), np.float32)


def disturbance(ours: Array, clean: Array, valid_bins: Array = EVERYTHING) -> float:
    level = active_rms(clean)
    return float(
        DISTURBANCE(powers(N_FFT, ours / level), powers(N_FFT, clean / level), valid_bins)[0]
    )


def test_bands_and_thresholds_are_those_of_the_literature() -> None:
    assert bark(np.array([1000.0]))[0] == pytest.approx(8.5, abs=0.1)
    at_db = threshold_db_spl(np.array([100.0, 1000.0, 3300.0]))
    np.testing.assert_allclose(at_db, [23.0, 3.4, -5.0], atol=0.5)


def test_every_bin_counts_once() -> None:
    np.testing.assert_allclose(DISTURBANCE.to_bands.sum(axis=1), 1.0, atol=1e-4)


def test_what_is_the_same_does_not_disturb_and_more_noise_disturbs_more(
    recordings: tuple[Array, Array],
) -> None:
    clean, noisy = recordings
    found = [disturbance(clean + share * (noisy - clean), clean) for share in (0.0, 0.1, 0.3, 1.0)]
    assert found[0] < 0.01
    assert found == sorted(found)
    assert found[3] > 1.0


def test_a_change_of_level_hardly_disturbs_and_added_sound_does_so_more_than_missing(
    recordings: tuple[Array, Array],
) -> None:
    clean, noisy = recordings
    assert disturbance(0.7 * clean, clean) < 0.1
    assert disturbance(noisy, clean) > disturbance(clean, noisy)


def test_invalid_bins_do_not_count(recordings: tuple[Array, Array]) -> None:
    clean, noisy = recordings
    assert disturbance(noisy, clean, np.zeros_like(EVERYTHING)) < 0.01


def test_it_orders_as_pesq_does(recordings: tuple[Array, Array]) -> None:
    clean, noisy = (signal[: 8 * RATE_HZ] for signal in recordings)
    found, scores = [], []
    for share in (1.0, 0.5, 0.25, 0.12, 0.06):
        ours = clean + np.float32(share) * (noisy - clean)
        found.append(disturbance(ours, clean))
        scores.append(pesq_wb(clean, ours, RATE_HZ))
    assert np.corrcoef(found, scores)[0, 1] < -0.9
    assert found == sorted(found, reverse=True)
