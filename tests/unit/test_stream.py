from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_MODEL
from properties import given, settings, st
from signals import delay_samples

from rtden import Settings, StreamDenoiser
from rtden.errors import InputError
from rtden.measure.metrics import si_sdr_db

MODEL_HZ = 22050
RATES_HZ = (8000, 16000, 22050, 44100, 48000, 96000, 192000)
UNTOUCHED = Settings(limit_db=0.0)  # every gain is one: what comes out should be what went in


def tones(
    rate_hz: int, *, channels: int = 1, seconds: float = 0.6, top_hz: float = 3000.0
) -> np.ndarray:
    """Sines that fade in and out, other ones in each channel; computed, not resampled, so that any
    rate has the same sound.
    """
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    fade = np.sin(np.pi * t / seconds) ** 2
    columns = []
    for channel in range(channels):
        rng = np.random.default_rng(channel)
        lines = zip(rng.uniform(100.0, top_hz, 10), rng.uniform(0, 2 * np.pi, 10), strict=True)
        columns.append(0.03 * fade * sum(np.sin(2 * np.pi * hz * t + phase) for hz, phase in lines))
    return np.stack(columns, axis=1).astype(np.float32)


def run(stream: StreamDenoiser, signal: np.ndarray, sizes: list[int] | None = None) -> np.ndarray:
    """Feed a signal in blocks of the given sizes, what is left as one block."""
    out, at = [], 0
    for size in sizes or []:
        out.append(stream.feed(signal[at : at + size]))
        at += size
    return np.concatenate([*out, stream.feed(signal[at:]), stream.flush()])


def lag_seconds(reference: np.ndarray, signal: np.ndarray, rate_hz: int) -> float:
    """By how much a signal is late, to a fraction of a sample: the slope of the phase of the
    cross-spectrum below 600 Hz.
    """
    hz = np.fft.rfftfreq(len(reference), 1.0 / rate_hz)
    cross = (np.fft.rfft(signal) * np.conj(np.fft.rfft(reference)))[hz < 600.0]
    omega, weight = 2 * np.pi * hz[hz < 600.0], np.abs(cross)
    return float(-np.sum(weight * omega * np.angle(cross)) / np.sum(weight * omega**2))


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(hz, (1, 2, 3)[n % 3]) for n, hz in enumerate(RATES_HZ)]
)
def test_output_is_the_input_in_place_and_shape_when_nothing_may_be_taken_off(
    rate_hz: int, channels: int
) -> None:
    signal = tones(rate_hz, channels=channels)
    out = run(StreamDenoiser(settings=UNTOUCHED, rate_hz=rate_hz, channels=channels), signal)
    for channel in range(channels):
        assert delay_samples(out[:, channel], signal[:, channel]) == 0
        assert si_sdr_db(signal[:, channel], out[:, channel]) > 80.0
        assert out[:, channel].std() == pytest.approx(signal[:, channel].std(), rel=1e-3)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_low_delay_output_is_late_but_not_shifted(rate_hz: int) -> None:
    signal = tones(rate_hz, channels=2, top_hz=500.0)
    out = run(
        StreamDenoiser(settings=UNTOUCHED, rate_hz=rate_hz, channels=2, low_delay=True), signal
    )
    half_a_sample_seconds = 0.5 / min(rate_hz, MODEL_HZ)  # of the coarser of the two rates
    for channel in range(2):
        assert (
            abs(lag_seconds(signal[:, channel], out[:, channel], rate_hz)) <= half_a_sample_seconds
        )
        assert si_sdr_db(signal[:, channel], out[:, channel]) > 20.0


@functools.cache
def at_once(rate_hz: int, low_delay: bool) -> tuple[StreamDenoiser, np.ndarray, np.ndarray]:
    """Return a stream, a signal, and what the one makes of the other, fed at once."""
    signal = tones(rate_hz, channels=2, seconds=0.4)
    stream = StreamDenoiser(settings=UNTOUCHED, rate_hz=rate_hz, channels=2, low_delay=low_delay)
    return stream, signal, run(stream, signal)


@given(
    sizes=st.lists(st.integers(0, 4000), max_size=12),
    rate_hz=st.sampled_from([8000, 22050, 48000]),
    low_delay=st.booleans(),
)
@settings(max_examples=25)
def test_chunking_changes_neither_length_nor_samples(
    sizes: list[int], rate_hz: int, low_delay: bool
) -> None:
    stream, signal, whole = at_once(rate_hz, low_delay)
    chunked = run(stream, signal, sizes)
    assert chunked.shape == whole.shape == signal.shape
    if low_delay or rate_hz == MODEL_HZ:
        assert np.array_equal(chunked, whole)
    np.testing.assert_allclose(chunked, whole, rtol=0, atol=1e-6)


@given(sizes=st.lists(st.integers(0, 4000), max_size=12))
@settings(max_examples=10)
def test_chunking_does_not_change_what_the_network_makes_of_the_sound(sizes: list[int]) -> None:
    signal = tones(MODEL_HZ) + np.random.default_rng(1).normal(
        0, 0.01, (len(tones(MODEL_HZ)), 1)
    ).astype(np.float32)
    stream = StreamDenoiser(rate_hz=MODEL_HZ)
    whole = run(stream, signal)
    assert not np.allclose(whole, signal, atol=1e-4)
    assert np.array_equal(run(stream, signal, sizes), whole)


@pytest.mark.parametrize("low_delay", [False, True])
def test_flush_and_reset_make_the_stream_new_again(low_delay: bool) -> None:
    signal = tones(48000)
    stream = StreamDenoiser(rate_hz=48000, low_delay=low_delay)
    first = run(stream, signal)
    assert stream.flush().shape == (0, 1)
    np.testing.assert_array_equal(run(stream, signal), first)
    stream.feed(signal[:20001])
    stream.reset()
    np.testing.assert_array_equal(run(stream, signal), first)


@pytest.mark.parametrize(
    ("rate_hz", "low_delay"), [(8000, True), (22050, False), (48000, True), (48000, False)]
)
def test_samples_that_are_not_finite_count_as_silence_and_pass(
    rate_hz: int, low_delay: bool
) -> None:
    signal = tones(rate_hz, channels=2, seconds=1.8)
    at = rate_hz // 2
    broken, silenced = signal.copy(), signal.copy()
    broken[at : at + 3, 0] = np.nan, np.inf, -np.inf
    silenced[at : at + 3, 0] = 0.0
    stream = StreamDenoiser(SMALL_MODEL, rate_hz=rate_hz, channels=2, low_delay=low_delay)
    intact, out = run(stream, signal), run(stream, broken)
    assert out.shape == signal.shape
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, run(stream, silenced))
    np.testing.assert_array_equal(out[:, 1], intact[:, 1])
    # The network sees 8000 samples at once; before and after that, the hole is unheard.
    window = round((8000 + 2 * 1024) / MODEL_HZ * rate_hz)
    assert np.abs(out - intact)[at : at + window, 0].max() > 1e-3
    np.testing.assert_allclose(out[: at - window], intact[: at - window], rtol=0, atol=1e-6)
    np.testing.assert_allclose(out[at + 2 * window :], intact[at + 2 * window :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("low_delay", [False, True])
@pytest.mark.parametrize("rate_hz", [22050, 44100])
def test_channels_do_not_leak_into_each_other(rate_hz: int, low_delay: bool) -> None:
    rng = np.random.default_rng(3)
    stereo = tones(rate_hz, channels=2)
    stereo[:, 1] = rng.normal(0, 0.5, len(stereo))
    both = run(StreamDenoiser(rate_hz=rate_hz, channels=2, low_delay=low_delay), stereo)
    for channel in range(2):
        alone = run(StreamDenoiser(rate_hz=rate_hz, low_delay=low_delay), stereo[:, [channel]])
        np.testing.assert_allclose(both[:, [channel]], alone, rtol=0, atol=1e-6)


def test_a_silent_channel_stays_silent_beside_a_loud_one() -> None:
    stereo = tones(48000, channels=2)
    stereo[:, 1] = 0.0
    assert not run(StreamDenoiser(settings=UNTOUCHED, rate_hz=48000, channels=2), stereo)[
        :, 1
    ].any()


def test_a_rate_or_a_number_of_channels_out_of_range_is_an_input_error() -> None:
    for rate_hz in (-1, 0, 7999, 192001):
        with pytest.raises(InputError, match=rf"{rate_hz} Hz is outside 8000 to 192000 Hz"):
            StreamDenoiser(rate_hz=rate_hz)
    for channels in (-1, 0, 65):
        with pytest.raises(InputError, match=f"1 to 64 channels, not {channels}"):
            StreamDenoiser(rate_hz=16000, channels=channels)
    for rate_hz in (8000, 192000):
        assert StreamDenoiser(rate_hz=rate_hz).rate_hz == rate_hz


@pytest.mark.parametrize("rate_hz", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize("low_delay", [True, False])
def test_a_player_that_begins_after_the_latency_never_runs_dry(
    rate_hz: int, low_delay: bool
) -> None:
    """It takes a sample before each that is fed. A smaller latency would be too little."""
    options = Settings(overlap_samples=149)
    stream = StreamDenoiser("seed", options, rate_hz=rate_hz, low_delay=low_delay)
    rng, late = np.random.default_rng(0), []
    for size in rng.integers(1, rate_hz // 100, 400):
        stream.feed(np.zeros((size, 1), np.float32))
        late.append(stream.fed_samples + 1 - stream.returned_samples)
    latency = stream.latency
    assert max(late) <= latency.samples + (0 if low_delay else rate_hz // 1000)
    assert max(late) > (0.97 if low_delay else 0.9) * latency.samples
    assert latency.seconds == latency.samples / rate_hz == latency.ms / 1000
    if rate_hz == MODEL_HZ:
        assert latency == stream.denoisers[0].latency


def test_strength_and_limit_are_those_of_all_channels() -> None:
    signal = tones(MODEL_HZ, channels=2)
    with StreamDenoiser(rate_hz=MODEL_HZ, channels=2) as stream:
        stream.strength, stream.limit_db = 0.0, 6.0
        assert (stream.strength, stream.limit_db) == (0.0, 6.0)
        assert np.array_equal(run(stream, signal), signal)
        stream.feed(signal)
    assert (stream.fed_samples, stream.returned_samples) == (0, 0)


@pytest.mark.parametrize(
    ("channels", "block", "sentence"),
    [
        (1, np.zeros((9, 1), np.int16), r"full scale \+-1, not int16; divide .*32768"),
        (1, np.zeros(9), r"\(samples, 1\), not \(9,\); pass samples\[:, None\]"),
        (1, np.zeros((9, 2)), r"\(samples, 1\), not \(9, 2\)"),
        (2, np.zeros((2, 9)), r"\(samples, 2\), not \(2, 9\); pass samples.T"),
        (2, np.zeros((9, 1)), r"\(samples, 2\), not \(9, 1\)"),
        (2, np.zeros((9, 2, 2)), r"not \(9, 2, 2\)"),
        (1, np.full((64, 1), 20000.0), r"reach 20000, but full scale is \+-1"),
        (1, "sound", "not str"),
    ],
)
def test_a_block_of_another_shape_type_or_scale_is_refused_in_a_sentence(
    channels: int, block: Any, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        StreamDenoiser(rate_hz=48000, channels=channels).feed(block)


@pytest.mark.parametrize("absurd", [np.inf, 1e30, -5000.0, np.nan])
def test_absurd_samples_are_silence(absurd: float) -> None:
    signal = tones(48000)
    broken, silenced = signal.copy(), signal.copy()
    broken[::3], silenced[::3] = absurd, 0.0
    stream = StreamDenoiser(rate_hz=48000)
    assert np.array_equal(run(stream, broken), run(stream, silenced))


def test_samples_that_are_not_finite_reach_no_further_than_filters_and_a_frame() -> None:
    rate_hz = 48000
    signal = tones(rate_hz, seconds=1.0)
    at, reach = rate_hz // 2, round(0.02 * rate_hz)
    broken = signal.copy()
    broken[at] = np.nan
    stream = StreamDenoiser(settings=UNTOUCHED, rate_hz=rate_hz)
    intact, out = run(stream, signal), run(stream, broken)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[: at - reach], intact[: at - reach], rtol=0, atol=1e-6)
    np.testing.assert_allclose(out[at + reach :], intact[at + reach :], rtol=0, atol=1e-6)
