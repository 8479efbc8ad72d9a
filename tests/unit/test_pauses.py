"""Noise that the network leaves is lowered further where nobody has spoken for seconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtden import Denoiser, Settings, denoise
from rtden.gains import FIRST_MASK, PAUSE_SECONDS, SPEECH_MASK, PauseExpander
from rtden.model import load_model

SPEC = load_model().spec
SECOND = SPEC.rate_hz // SPEC.hop


def expanded(masks: np.ndarray, *, cut_at: tuple[int, ...] = ()) -> np.ndarray:
    out, expander = masks.astype(np.float32), PauseExpander(SPEC)
    for block in np.split(out, cut_at):
        expander.apply(block)
    return out


def constant(mask: float, seconds: float) -> np.ndarray:
    return np.full((round(seconds * SECOND), SPEC.n_mels), mask, np.float32)


def test_a_pause_doubles_the_decibels() -> None:
    out = expanded(constant(0.1, 12.0))
    assert np.all(out[:SECOND] == np.float32(0.1)), "a stream may begin with speech"
    assert out[-1] == pytest.approx(0.1**2)
    assert np.all(np.diff(out[:, 0]) <= 0.0), "it fades"


def test_speech_passes_as_it_is_and_is_remembered() -> None:
    spoken = expanded(np.concatenate([constant(0.1, 20.0), constant(0.8, 0.1), constant(0.1, 4.0)]))
    pause, speech, after = np.split(spoken, [20 * SECOND, 20 * SECOND + round(0.1 * SECOND)])
    assert pause[-1] == pytest.approx(0.1**2)
    assert np.all(speech == np.float32(0.8))
    assert np.all(after == np.float32(0.1))


def test_a_soft_onset_loses_less_than_two_decibels() -> None:
    mask = 0.9 * SPEECH_MASK
    onset = expanded(np.concatenate([constant(0.01, 20.0), constant(mask, 0.05)]))[-1]
    assert np.all(20 * np.log10(onset / mask) > -2.0)


@given(cut_at=st.lists(st.integers(0, 400), max_size=6).map(sorted), seed=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_any_division_into_blocks_gives_the_same_bits(cut_at: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.exp(-rng.exponential(3.0, (400, 1)))
    masks = levels * rng.random((400, SPEC.n_mels))
    np.testing.assert_array_equal(expanded(masks, cut_at=tuple(cut_at)), expanded(masks))


def test_hiss_is_lowered_by_no_more_than_the_limit() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(12 * SPEC.rate_hz).astype(np.float32)
    denoiser = Denoiser(settings=Settings(limit_db=20.0))
    out = np.concatenate([denoiser.feed(noise), denoiser.flush()])
    ends = slice(9 * SPEC.rate_hz, 11 * SPEC.rate_hz)
    assert 20 * np.log10(np.std(out[ends]) / np.std(noise[ends])) == pytest.approx(-20.0, abs=0.2)
    assert np.std(denoise(noise, SPEC.rate_hz)[ends]) < 1e-3 * np.std(noise[ends])


def test_a_stream_that_begins_without_speech_is_not_a_pause_at_once() -> None:
    seconds = PAUSE_SECONDS * np.log(FIRST_MASK / SPEECH_MASK)
    assert 1.5 < seconds < 4.0
