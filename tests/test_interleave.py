from __future__ import annotations

import dataclasses
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtden import Denoiser, Settings, StreamDenoiser
from rtden.errors import InputError, SettingsError
from rtden.interleave import InterleavedDenoiser

by_advance = pytest.mark.parametrize("advance", [1, 4])
ONE = Settings(iterations=0)
NOISE = np.random.default_rng(1).normal(0.0, 0.1, 60000).astype(np.float32)


def whole(denoiser: Denoiser | InterleavedDenoiser, signal: np.ndarray) -> np.ndarray:
    return np.concatenate([denoiser.feed(signal), denoiser.flush()])


def mean_of_two(settings: Settings, signal: np.ndarray) -> np.ndarray:
    """Return the mean of a denoiser's output and of that of one which has heard half the distance of frames of silence before."""
    offset = Denoiser().spec.frame_hop // 2
    later = whole(Denoiser(settings=settings), np.concatenate([np.zeros(offset, np.float32), signal]))[offset:]
    return (whole(Denoiser(settings=settings), signal) + later) * np.float32(0.5)


@by_advance
@pytest.mark.parametrize("overlap_samples", [None, 149])
def test_it_is_the_mean_of_two_denoisers_half_a_hop_apart(advance: int, overlap_samples: int | None, recordings: tuple[np.ndarray, np.ndarray]) -> None:
    settings = dataclasses.replace(ONE, advance=advance, overlap_samples=overlap_samples)
    out = whole(InterleavedDenoiser(settings=settings), recordings[1])
    assert np.array_equal(out, mean_of_two(settings, recordings[1]))


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 60000), max_size=12), advance=st.sampled_from([1, 2, 8]), steps_at_once=st.sampled_from([1, 3]))
def test_any_chunks_give_the_same_samples_and_top_gains_to_the_bit(cuts: list[int], advance: int, steps_at_once: int) -> None:
    signal, chosen = NOISE, Settings(advance=advance)
    denoiser = InterleavedDenoiser(settings=chosen)
    expected, gains = [denoiser.feed(signal)], [denoiser.top_gains]
    expected, gains = [*expected, denoiser.flush()], [*gains, denoiser.top_gains]
    denoiser = InterleavedDenoiser(settings=chosen, steps_at_once=steps_at_once)
    out, out_gains = [], []
    for chunk in np.split(signal, sorted(cuts)):
        out.append(denoiser.feed(chunk))
        out_gains.append(denoiser.top_gains)
        assert len(out[-1]) == len(out_gains[-1])
    out, out_gains = [*out, denoiser.flush()], [*out_gains, denoiser.top_gains]
    assert np.array_equal(np.concatenate(out), np.concatenate(expected))
    assert np.array_equal(np.concatenate(out_gains), np.concatenate(gains))


@settings(deadline=None, max_examples=30)
@given(chunk=st.integers(50, 3000), advance=st.sampled_from([1, 2, 4, 8]))
def test_it_keeps_to_the_latency_of_one_framing(chunk: int, advance: int) -> None:
    denoiser = InterleavedDenoiser(settings=Settings(advance=advance))
    fed = got = 0
    for start in range(0, 20000, chunk):
        fed += len(NOISE[start : start + chunk])
        got += len(denoiser.feed(NOISE[start : start + chunk]))
        assert fed - got < denoiser.latency.samples
    assert denoiser.latency == Denoiser(settings=Settings(advance=advance)).latency
    assert got + len(denoiser.flush()) == fed


def test_no_limit_to_what_is_kept_gives_back_the_input(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    out = whole(InterleavedDenoiser(settings=Settings(limit_db=0.0)), recordings[1])
    np.testing.assert_allclose(out, recordings[1], atol=1e-5)


def test_strength_and_limit_may_change_on_the_way(noise: np.ndarray) -> None:
    denoiser = InterleavedDenoiser()
    denoiser.strength = 0.0
    before = denoiser.feed(noise[:10000])
    assert np.array_equal(before, noise[: len(before)])
    denoiser.strength = denoiser.strength + 1.0
    denoiser.limit_db = 6.0
    assert (denoiser.strength, denoiser.limit_db) == (1.0, 6.0)
    denoiser.feed(noise[10000:20000])
    assert denoiser.band_gains.min() == pytest.approx(10 ** (-6 / 20))


def test_a_stream_after_a_reset_is_a_new_one(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    denoiser = InterleavedDenoiser()
    first = whole(denoiser, recordings[1][:30000])
    denoiser.feed(recordings[0][:9999])
    denoiser.reset()
    assert np.array_equal(whole(denoiser, recordings[1][:30000]), first)
    assert len(denoiser.flush()) == 0


@pytest.fixture
def pool() -> Executor:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_a_stream_of_two_channels_has_it_here_or_in_other_processes(pool: Executor, recordings: tuple[np.ndarray, np.ndarray]) -> None:
    stereo = np.stack([recordings[1], recordings[0]], axis=1)
    settings = Settings(interleaved=True)
    outs = []
    for stream in (StreamDenoiser(settings=settings, rate_hz=44100, channels=2), StreamDenoiser(settings=settings, rate_hz=44100, channels=2, pool=pool)):
        outs.append(np.concatenate([stream.feed(stereo[:200000]), stream.feed(stereo[200000:]), stream.flush()]))
        assert outs[-1].shape == stereo.shape
    np.testing.assert_allclose(*outs, atol=1e-5)
    alone = StreamDenoiser(settings=ONE, rate_hz=44100, channels=2)
    assert np.abs(outs[0] - np.concatenate([alone.feed(stereo), alone.flush()])).max() > 1e-3


def test_without_top_gains_the_samples_are_the_same(noise: np.ndarray) -> None:
    denoiser = InterleavedDenoiser(with_top_gains=False)
    assert np.array_equal(whole(denoiser, noise[:20000]), whole(InterleavedDenoiser(), noise[:20000]))
    assert len(denoiser.top_gains) == 0


def test_a_denoiser_says_that_it_has_one_framing() -> None:
    with pytest.raises(SettingsError, match="InterleavedDenoiser"):
        Denoiser(settings=Settings(interleaved=True))


def test_wrong_input_is_refused_and_changes_nothing(noise: np.ndarray) -> None:
    denoiser = InterleavedDenoiser()
    with pytest.raises(InputError, match="mono"):
        denoiser.feed(np.zeros((10, 2), np.float32))
    assert np.array_equal(whole(denoiser, noise[:5000]), whole(InterleavedDenoiser(), noise[:5000]))
