from __future__ import annotations

import gc
import itertools
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_MODELS
from hypothesis import given, settings
from hypothesis import strategies as st

from rtden import Denoiser, Settings, list_models
from rtden.denoiser import algorithmic_latency, settings_for_latency
from rtden.errors import InputError, SettingsError
from rtden.measure.cost import resident_mb
from rtden.measure.metrics import si_sdr_db
from rtden.model import find_model, load_spec

MODELS = [*SMALL_MODELS, *(find_model(name) for name in list_models())]
HOPS_PER_STEP = (1, 2, 4, 8)
OVERLAPS = (None, 128)
UNITY = {"limit_db": 0.0}
by_model = pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
by_advance = pytest.mark.parametrize("hops_per_step", HOPS_PER_STEP)
by_overlap = pytest.mark.parametrize("overlap", OVERLAPS)


def whole(denoiser: Denoiser, signal: np.ndarray) -> np.ndarray:
    return np.concatenate([denoiser.feed(signal), denoiser.flush()])


def in_chunks(denoiser: Denoiser, signal: np.ndarray, chunk: int) -> np.ndarray:
    return np.concatenate(
        [
            *(denoiser.feed(signal[at : at + chunk]) for at in range(0, len(signal), chunk)),
            denoiser.flush(),
        ]
    )


@by_model
@by_advance
@by_overlap
@pytest.mark.parametrize("chunk", [17, 509, 4000, 8000, 44100])
def test_any_chunk_size_gives_the_same_samples_to_the_bit(
    model: Path, hops_per_step: int, overlap: int | None, chunk: int, noise: np.ndarray
) -> None:
    denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step, overlap_samples=overlap))
    assert np.array_equal(in_chunks(denoiser, noise, chunk), whole(denoiser, noise))


def test_sample_by_sample_too(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    assert np.array_equal(in_chunks(denoiser, noise[:8001], 1), whole(denoiser, noise[:8001]))


SHARED = {
    (hops_per_step, overlap): Denoiser(
        SMALL_MODELS[0],
        Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.7),
    )
    for hops_per_step in HOPS_PER_STEP
    for overlap in OVERLAPS
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SHARED, key=str)),
    st.lists(st.integers(0, 3000), max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_any_chunking_gives_the_same_samples_to_the_bit(
    shared: tuple[int, int | None], chunks: list[int], seed: int
) -> None:
    signal = np.random.default_rng(seed).normal(0.0, 0.2, sum(chunks)).astype(np.float32)
    denoiser = SHARED[shared]
    ends = list(itertools.accumulate(chunks, initial=0))
    parts, top_gains = [], []
    for start, end in itertools.pairwise(ends):
        parts.append(denoiser.feed(signal[start:end]))
        top_gains.append(denoiser.top_gains)
    parts.append(denoiser.flush())
    top_gains.append(denoiser.top_gains)
    assert [len(part) for part in parts] == [len(gains) for gains in top_gains]
    once = denoiser.feed(signal), denoiser.top_gains, denoiser.flush(), denoiser.top_gains
    assert np.array_equal(np.concatenate(parts), np.concatenate(once[::2]))
    assert np.array_equal(np.concatenate(top_gains), np.concatenate(once[1::2]))


@by_model
@by_advance
@by_overlap
@pytest.mark.parametrize("samples", [0, 1, 511, 512, 7999, 8000, 8001, 30000])
def test_every_sample_comes_back_once(
    model: Path, hops_per_step: int, overlap: int | None, samples: int, noise: np.ndarray
) -> None:
    out = whole(
        Denoiser(model, Settings(hops_per_step=hops_per_step, overlap_samples=overlap)),
        noise[:samples],
    )
    assert out.shape == (samples,)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


@by_model
@by_advance
@pytest.mark.parametrize("overlap", [*OVERLAPS, 32])
@pytest.mark.parametrize("iterations", [0, 2])
def test_gain_one_gives_the_input_back_to_minus_100_db(
    model: Path, hops_per_step: int, overlap: int | None, iterations: int, noise: np.ndarray
) -> None:
    denoiser = Denoiser(
        model,
        Settings(
            hops_per_step=hops_per_step,
            overlap_samples=overlap,
            iterations=iterations,
            phase="warm",
            **UNITY,
        ),
    )
    error = whole(denoiser, noise) - noise
    assert 10 * np.log10(np.mean(error**2) / np.mean(noise**2)) < -100


@by_model
@by_advance
@pytest.mark.parametrize("overlap", [*OVERLAPS, 32, 301])
def test_latency_is_proved_by_an_impulse(
    model: Path, hops_per_step: int, overlap: int | None
) -> None:
    """A player that takes a sample before each one fed, from `latency` zeros on, hears the impulse exactly `latency` later."""
    denoiser = Denoiser(
        model, Settings(hops_per_step=hops_per_step, overlap_samples=overlap, phase="warm", **UNITY)
    )
    impulse = np.zeros(6 * denoiser.step_samples + 2 * denoiser.spec.n_fft, np.float32)
    at = denoiser.spec.n_fft + 77
    impulse[at] = 1.0
    waiting = list(np.zeros(denoiser.latency.samples, np.float32))
    least, played = len(waiting), []
    for sample in impulse:
        least = min(least, len(waiting))
        played.append(waiting.pop(0))
        waiting.extend(denoiser.feed(sample[None]))
    assert least == 1  # never dry, and one sample less would have been too few
    assert int(np.argmax(np.abs(played))) == at + denoiser.latency.samples
    assert max(played) == pytest.approx(1.0, abs=1e-4)
    assert denoiser.latency.seconds == denoiser.latency.samples / denoiser.rate_hz


def test_latency_of_the_shipped_geometry() -> None:
    assert [
        Denoiser(settings=Settings(hops_per_step=hops_per_step)).latency.samples
        for hops_per_step in HOPS_PER_STEP
    ] == [1024, 1536, 2560, 4608]
    assert [
        Denoiser(
            settings=Settings(hops_per_step=hops_per_step, overlap_samples=128)
        ).latency.samples
        for hops_per_step in HOPS_PER_STEP
    ] == [640, 1152, 2176, 4224]


@by_model
@by_advance
@by_overlap
def test_no_sound_is_heard_later_than_the_latency(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    """The output up to a sample does not change with the input from `latency` behind it on."""
    at = 20001
    other = noise.copy()
    other[at:] = noise[::-1][at:]
    denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step, overlap_samples=overlap))
    before = at - denoiser.latency.samples
    assert np.array_equal(whole(denoiser, noise)[:before], whole(denoiser, other)[:before])


@pytest.mark.parametrize(
    ("wish_ms", "hops_per_step", "overlap", "samples"),
    [
        (1.0, 1, 32, 544),
        (24.6, 1, 32, 544),
        (30.0, 1, 149, 661),
        (46.43, 1, 511, 1023),
        (46.44, 1, None, 1024),
        (69.6, 1, None, 1024),
        (69.7, 2, None, 1536),
        (1000.0, 8, None, 4608),
        (math.inf, 8, None, 4608),
    ],
)
def test_a_wish_gets_the_longest_overlap_and_then_the_largest_advance_that_fit(
    wish_ms: float, hops_per_step: int, overlap: int | None, samples: int
) -> None:
    chosen, latency = settings_for_latency(
        wish_ms, settings=Settings(strength=0.7, hops_per_step=4, overlap_samples=77)
    )
    assert chosen == Settings(strength=0.7, hops_per_step=hops_per_step, overlap_samples=overlap)
    assert latency.samples == samples
    assert latency == Denoiser(settings=chosen).latency


@by_model
def test_a_wish_is_not_exceeded_where_it_can_be_kept(model: Path) -> None:
    spec = load_spec(model)
    least = algorithmic_latency(spec, Settings(overlap_samples=32)).seconds
    for wish_ms in (10.0, 20.0, 25.0, 33.3, 50.0, 100.0, 500.0):
        chosen, latency = settings_for_latency(wish_ms, model=model)
        assert latency == Denoiser(model, chosen).latency
        assert latency.seconds <= max(wish_ms / 1000.0, least)


@pytest.mark.parametrize("wish_ms", [0.0, -1.0, math.nan])
def test_a_wish_that_is_no_latency_is_refused(wish_ms: float) -> None:
    with pytest.raises(SettingsError, match="more than 0 ms"):
        settings_for_latency(wish_ms)


def test_an_overlap_longer_than_the_models_is_refused() -> None:
    with pytest.raises(SettingsError, match="512 samples at most"):
        Denoiser(settings=Settings(overlap_samples=513))
    with pytest.raises(SettingsError, match="overlap_samples"):
        Settings(overlap_samples=31)


def test_the_whole_overlap_is_the_same_by_its_number(noise: np.ndarray) -> None:
    assert np.array_equal(
        whole(Denoiser(settings=Settings(overlap_samples=512)), noise), whole(Denoiser(), noise)
    )


def test_without_iterations_the_default_model_gives_the_same_samples_at_any_advance_to_the_bit(
    noise: np.ndarray,
) -> None:
    assert load_spec(find_model()).iterations == 0
    expected = whole(Denoiser(), noise)
    for hops_per_step in HOPS_PER_STEP[1:]:
        assert np.array_equal(
            whole(Denoiser(settings=Settings(hops_per_step=hops_per_step)), noise), expected
        )


def test_a_latency_of_30_ms_costs_little_of_the_quality(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = recordings
    chosen, latency = settings_for_latency(30.0)
    assert latency.seconds <= 0.030
    full, low = whole(Denoiser(), noisy), whole(Denoiser(settings=chosen), noisy)
    assert si_sdr_db(clean, low) > si_sdr_db(clean, noisy) + 5.3
    assert si_sdr_db(clean, low) > si_sdr_db(clean, full) - 0.5  # which has two frames a column


@by_model
@by_advance
@by_overlap
def test_strength_zero_is_the_input_exactly(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    assert np.array_equal(
        whole(
            Denoiser(
                model, Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.0)
            ),
            noise,
        ),
        noise,
    )


@by_overlap
def test_strength_mixes_in_time_with_the_input(overlap: int | None, noise: np.ndarray) -> None:
    wet = whole(Denoiser(settings=Settings(overlap_samples=overlap)), noise)
    half = whole(Denoiser(settings=Settings(overlap_samples=overlap, strength=0.5)), noise)
    np.testing.assert_allclose(half, 0.5 * wet + 0.5 * noise, atol=1e-6)


@by_model
@by_advance
@by_overlap
def test_strength_glides_from_the_denoised_to_the_dry_within_a_step(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    chosen = Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
    denoiser = Denoiser(model, chosen)
    wet, at = whole(denoiser, noise), 15000
    parts = [denoiser.feed(noise[:at])]
    denoiser.strength = 0.0
    parts += [denoiser.feed(noise[at:]), denoiser.flush()]
    start, step = len(parts[0]), denoiser.step_samples
    share = np.clip(1.0 - np.arange(1, len(noise) - start + 1) / step, 0.0, 1.0)
    out = np.concatenate(parts)
    assert np.array_equal(out[:start], wet[:start])
    np.testing.assert_allclose(
        out[start:], share * wet[start:] + (1.0 - share) * noise[start:], atol=1e-6
    )
    assert np.array_equal(out[start + step :], noise[start + step :])


def test_a_change_of_strength_makes_no_jump() -> None:
    """A tone that the denoiser takes away fades: nowhere is its step from sample to sample longer than its own."""
    tone = (0.3 * np.sin(2 * np.pi * 500.0 * np.arange(60000) / 22050)).astype(np.float32)
    denoiser, parts = Denoiser(), []
    for at in range(0, len(tone), 441):
        if at % 8820 == 0:
            denoiser.strength = 1.0 - denoiser.strength
        parts.append(denoiser.feed(tone[at : at + 441]))
    out = np.concatenate(parts)
    assert np.abs(out - tone[: len(out)]).max() > 0.1  # something changed
    assert np.abs(np.diff(out)).max() <= np.abs(np.diff(tone)).max() * 1.05


@by_advance
@by_overlap
@pytest.mark.parametrize("chunk", [1, 100, 4097])
def test_a_change_at_the_same_sample_gives_the_same_samples_however_the_stream_is_cut(
    hops_per_step: int, overlap: int | None, chunk: int, noise: np.ndarray
) -> None:
    denoiser = Denoiser(
        SMALL_MODELS[0], Settings(hops_per_step=hops_per_step, overlap_samples=overlap)
    )
    changes = {
        0: (1.0, math.inf),
        6000: (0.2, math.inf),
        9001: (0.9, 6.0),
        9002: (0.3, 10.0),
        20000: (1.0, 0.0),
    }

    def changed(longest: int) -> np.ndarray:
        parts = []
        for start, end in itertools.pairwise([*changes, len(noise)]):
            denoiser.strength, denoiser.limit_db = changes[start]
            parts += [
                denoiser.feed(noise[at : min(at + longest, end)])
                for at in range(start, end, longest)
            ]
        return np.concatenate([*parts, denoiser.flush()])

    assert np.array_equal(changed(chunk), changed(len(noise)))


def test_reset_keeps_strength_and_limit_and_a_stream_begins_with_them(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    denoiser.feed(noise)
    denoiser.strength, denoiser.limit_db = 0.25, 10.0
    denoiser.reset()
    assert (denoiser.strength, denoiser.limit_db) == (0.25, 10.0)
    assert np.array_equal(
        whole(denoiser, noise),
        whole(Denoiser(settings=Settings(strength=0.25, limit_db=10.0)), noise),
    )
    denoiser.strength = 0.0
    assert np.array_equal(whole(denoiser, noise), noise)
    assert denoiser.settings == Settings()


def test_a_limit_set_while_running_holds_for_what_follows(noise: np.ndarray) -> None:
    denoiser = Denoiser(settings=Settings(iterations=0))  # an iteration keeps some of the past
    first = denoiser.feed(noise[:15000])
    denoiser.limit_db = 0.0
    out = np.concatenate([first, denoiser.feed(noise[15000:]), denoiser.flush()])
    settled = len(first) + denoiser.spec.n_fft
    np.testing.assert_allclose(out[settled:], noise[settled:], atol=1e-5)
    assert np.mean(first[8000:] ** 2) < 0.1 * np.mean(noise**2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", 1.01),
        ("strength", -0.1),
        ("strength", math.nan),
        ("limit_db", -1.0),
        ("limit_db", math.nan),
    ],
)
def test_a_strength_or_limit_outside_its_range_is_refused_and_the_old_one_kept(
    name: str, value: float
) -> None:
    denoiser = Denoiser(settings=Settings(strength=0.5, limit_db=20.0))
    with pytest.raises(SettingsError, match=name):
        setattr(denoiser, name, value)
    assert (denoiser.strength, denoiser.limit_db) == (0.5, 20.0)


def test_a_step_leaves_no_memory_behind(noise: np.ndarray) -> None:
    """Beside what is returned; what a step needs for a while is given back within it."""
    denoiser = Denoiser(settings=Settings(strength=0.5))
    block = noise[: denoiser.step_samples]
    for _ in range(50):
        denoiser.feed(block)
    tracemalloc.start()
    try:
        denoiser.feed(block)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            denoiser.feed(block)
        assert tracemalloc.get_traced_memory()[0] - before < 2048
    finally:
        tracemalloc.stop()


@by_model
@by_advance
@by_overlap
def test_top_gains_are_the_gains_of_the_samples_returned(
    model: Path, hops_per_step: int, overlap: int | None, noise: np.ndarray
) -> None:
    """All of one band gain: what the denoiser does to its band is what the top gains say, as far as frames fade in straight lines."""

    class Even(Denoiser):
        def _autoencoder(self) -> None:
            starts = self._frame_start + self.spec.frame_hop * np.arange(len(self._band_gains))
            self._band_gains[...] = 0.2 + 0.6 * starts[:, None] / (300 * self.spec.hop)

    denoiser = Even(
        model,
        Settings(hops_per_step=hops_per_step, overlap_samples=overlap, iterations=0, phase="warm"),
    )
    out = denoiser.feed(noise)
    gains = denoiser.top_gains
    assert gains.shape == out.shape
    assert gains.dtype == np.float32
    np.testing.assert_allclose(out, gains * noise[: len(out)], atol=0.004)
    rest = denoiser.flush()
    assert denoiser.top_gains.shape == rest.shape
    denoiser.reset()
    assert denoiser.top_gains.shape == (0,)


@by_model
@by_overlap
def test_top_gains_know_the_limit_and_the_strength(
    model: Path, overlap: int | None, noise: np.ndarray
) -> None:
    def gains(**changes: float) -> np.ndarray:
        denoiser = Denoiser(model, Settings(overlap_samples=overlap, **changes))
        denoiser.feed(noise)
        return denoiser.top_gains

    unlimited = gains()
    assert (gains(limit_db=0.0) == 1.0).all()
    assert (gains(strength=0.0) == 1.0).all()
    np.testing.assert_allclose(gains(strength=0.25), 0.25 * unlimited + 0.75, atol=1e-6)
    assert gains(limit_db=6.0).min() >= 10 ** (-6.0 / 20.0) - 1e-6
    assert (gains(limit_db=6.0) >= unlimited - 1e-6).all()


@by_overlap
def test_top_gains_let_fricatives_through_and_noise_not(
    overlap: int | None, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    def gains(signal: np.ndarray) -> np.ndarray:
        denoiser = Denoiser(settings=Settings(overlap_samples=overlap))
        denoiser.feed(signal)
        return denoiser.top_gains

    clean, noisy = recordings
    spectrum = np.fft.rfft(clean)
    spectrum[np.fft.rfftfreq(len(clean), 1 / 22050) < 5000] = 0.0
    level = np.convolve(np.fft.irfft(spectrum, len(clean)) ** 2, np.ones(512) / 512, "same")
    passed = gains(clean)
    assert (
        passed[level[: len(passed)] > 0.1 * level.max()].mean() > 0.4
    )  # the voice is synthetic; natural ones get 0.9
    assert gains(noisy - clean).mean() < 0.02


def test_limit_bounds_what_is_taken_away(noise: np.ndarray) -> None:
    def level(limit_db: float) -> float:
        return float(
            np.mean(
                whole(Denoiser(settings=Settings(limit_db=limit_db, iterations=0)), noise)[8000:]
                ** 2
            )
        )

    unlimited, six, none = level(np.inf), level(6.0), level(0.0)
    assert unlimited < six < none
    assert 10 * np.log10(none / six) <= 6.1


@by_model
def test_reset_forgets_everything(model: Path, noise: np.ndarray) -> None:
    denoiser = Denoiser(model)
    first = whole(denoiser, noise)
    denoiser.feed(noise[::-1][:12345])
    denoiser.reset()
    assert np.array_equal(whole(denoiser, noise), first)


@by_model
def test_silence_stays_silence(model: Path) -> None:
    assert not whole(Denoiser(model), np.zeros(20000, np.float32)).any()


BAD = {
    "not a number": np.full(5000, np.nan),
    "infinity": np.full(5000, np.inf),
    "minus infinity": np.full(5000, -np.inf),
    "beyond float32": np.full(5000, 1e300),
    "denormal": np.full(5000, 1e-42),
    "direct current": np.ones(5000),
    "clipped": np.sign(np.sin(np.arange(5000) / 7.0)),
    "silence": np.zeros(5000),
}


@by_model
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gives_finite_output_and_is_forgotten(
    model: Path, kind: str, noise: np.ndarray
) -> None:
    """1.5 s after it (a second for the floor, the window's 16 columns), the output is what it would have been after silence."""
    tail = np.tile(noise, 2)

    def after(start: np.ndarray) -> np.ndarray:
        return whole(
            Denoiser(model, Settings(iterations=0, phase="warm")), np.concatenate([start, tail])
        )

    with np.errstate(all="ignore"):
        out = after(BAD[kind])
    assert np.isfinite(out).all()
    rate_hz = Denoiser(model).rate_hz
    settled = len(BAD[kind]) + 3 * rate_hz // 2
    if (
        "above_mean" not in Denoiser(model).spec.channels
    ):  # the slow mean, by its nature, forgets gradually
        expected = after(np.zeros(5000))[settled:]
        # -30 dB: a rounding error in the floor may tip a step of 1/256 of an int8 network.
        assert np.mean((out[settled:] - expected) ** 2) < 1e-3 * np.mean(expected**2)


def test_single_bad_samples_do_not_spread(noise: np.ndarray) -> None:
    spoiled = noise.copy()
    spoiled[10000] = np.nan
    mended = noise.copy()
    mended[10000] = 0.0
    assert np.array_equal(whole(Denoiser(), spoiled), whole(Denoiser(), mended))


def test_input_of_the_wrong_kind_is_refused() -> None:
    denoiser = Denoiser()
    with pytest.raises(InputError, match="mono"):
        denoiser.feed(np.zeros((100, 2), np.float32))
    with pytest.raises(InputError, match="floating-point"):
        denoiser.feed(np.zeros(100, np.int16))


def test_an_advance_beyond_the_networks_window_is_refused(tmp_path: Path) -> None:
    import dataclasses
    import shutil

    from rtden.model import save_spec

    source = next(path for path in SMALL_MODELS if path.stem == "int8_lookahead")
    copy = tmp_path / source.name
    shutil.copy(source, copy)
    save_spec(dataclasses.replace(load_spec(source), lookahead=10), copy)
    with pytest.raises(InputError, match="smaller hops_per_step"):
        Denoiser(copy, Settings(hops_per_step=8))


def test_memory_does_not_grow_over_ten_thousand_hops(noise: np.ndarray) -> None:
    denoiser = Denoiser()
    block = noise[: denoiser.step_samples]
    for _ in range(500):
        denoiser.feed(block)
    gc.collect()
    before = resident_mb()
    for _ in range(10000):
        denoiser.feed(block)
    gc.collect()
    assert resident_mb() - before < 3.0


def test_speech_comes_out_cleaner_than_it_went_in(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = recordings
    assert si_sdr_db(clean, whole(Denoiser(), noisy)) > si_sdr_db(clean, noisy) + 3.0


class Untiring(Denoiser):
    """A denoiser that asks its network at every step."""

    def _is_silent(self, _: int) -> bool:
        return False


def with_a_pause(speech: np.ndarray, pause_db: float, pause_samples: int = 44100) -> np.ndarray:
    """Return speech, two seconds whose peaks stay below `pause_db`, and speech."""
    pause = np.random.default_rng(2).uniform(-1.0, 1.0, pause_samples).astype(
        np.float32
    ) * np.float32(10.0 ** (pause_db / 20.0))
    return np.concatenate([speech[:20000], pause, speech[20000:40000]])


@by_model
@by_advance
@pytest.mark.parametrize("phase", ["warm", "random"])
def test_digital_silence_without_the_network_changes_nothing_to_the_bit(
    model: Path, hops_per_step: int, phase: str, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = with_a_pause(recordings[1], -np.inf)
    options = Settings(hops_per_step=hops_per_step, phase=phase)
    assert np.array_equal(
        whole(Denoiser(model, options), signal), whole(Untiring(model, options), signal)
    )


@by_advance
@pytest.mark.parametrize("limit_db", [0.0, 12.0, np.inf])
@pytest.mark.parametrize("pause_db", [-80.1, -100.0])
def test_silence_below_80_db_without_the_network_changes_no_sample_by_more_than_that(
    hops_per_step: int, limit_db: float, pause_db: float, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = with_a_pause(recordings[1], pause_db)
    options = Settings(hops_per_step=hops_per_step, limit_db=limit_db)
    difference = whole(Denoiser(settings=options), signal) - whole(
        Untiring(settings=options), signal
    )
    assert 0.0 < np.abs(difference).max() < 1e-4  # 0 would mean that nothing had been left out


@by_advance
def test_the_network_rests_in_silence_and_is_back_at_the_first_step_that_is_not(
    hops_per_step: int, noise: np.ndarray
) -> None:
    denoiser = Denoiser(settings=Settings(hops_per_step=hops_per_step))
    answer, calls = denoiser._answer, []
    denoiser._answer = lambda share, rows: calls.append(1) or answer(share, rows)
    step, sound = denoiser.step_samples, np.tile(noise, 2)

    def calls_for(signal: np.ndarray) -> int:
        calls.clear()
        denoiser.feed(signal)
        return len(calls)

    assert calls_for(sound[: 10 * step]) >= 9
    calls_for(
        np.zeros(16384, np.float32)
    )  # 0.74 s: the 16 columns, the inverter's frames and two steps
    assert calls_for(np.full(20 * step, 0.99e-4, np.float32)) == 0
    assert calls_for(np.full(step, 1.01e-4, np.float32)) == 1
    assert calls_for(sound[: 10 * step]) == 10


@by_model
@by_advance
@by_overlap
@pytest.mark.parametrize("steps", [2, 7, 64])
def test_steps_computed_together_give_the_same_samples_to_the_bit(
    model: Path,
    hops_per_step: int,
    overlap: int | None,
    steps: int,
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    """Speech, a pause in which the network rests, digital silence in the middle of a block, and speech at another strength."""
    signal = np.concatenate(
        [with_a_pause(recordings[1], -85.0), np.zeros(5000, np.float32), recordings[1][:20000]]
    )
    options = Settings(hops_per_step=hops_per_step, overlap_samples=overlap, strength=0.9)
    single, together = Denoiser(model, options), Denoiser(model, options, batch_steps=steps)
    assert together.latency.samples == single.latency.samples + (steps - 1) * single.step_samples
    expected, top_gains = single.feed(signal), single.top_gains
    out = together.feed(signal)
    assert np.array_equal(together.top_gains, top_gains[: len(out)])
    assert np.array_equal(
        np.concatenate([out, together.flush()]), np.concatenate([expected, single.flush()])
    )
    assert np.array_equal(in_chunks(together, signal, 5000), whole(single, signal))


@by_model
@by_advance
@pytest.mark.parametrize("pause_samples", [17000, 20000, 23500, 77175])
def test_after_silence_the_network_remembers_what_it_would_have(
    model: Path, hops_per_step: int, pause_samples: int, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    """However long it rested, and whatever it was given at once or had to catch up with: its next answers are the same to the bit."""
    signal = with_a_pause(recordings[1], -85.0, pause_samples)
    options = Settings(hops_per_step=hops_per_step, iterations=0, phase="warm")
    gains = []
    for denoiser in (Denoiser(model, options), Untiring(model, options)):
        denoiser.feed(signal)
        gains.append(denoiser.band_gains)
    assert np.array_equal(*gains)


@by_advance
@pytest.mark.parametrize("chunk", [17, 509, 8000])
def test_any_chunk_size_gives_the_same_samples_around_a_pause(
    hops_per_step: int, chunk: int, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = with_a_pause(recordings[1], -85.0)
    denoiser = Denoiser(settings=Settings(hops_per_step=hops_per_step))
    assert np.array_equal(in_chunks(denoiser, signal, chunk), whole(denoiser, signal))


def test_a_recording_that_is_quiet_throughout_is_not_muted(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    speech = recordings[0][:66150] * np.float32(0.99e-4 / np.abs(recordings[0]).max())
    out = whole(Denoiser(), speech)
    assert np.mean(out[30000:] ** 2) > 0.01 * np.mean(speech[30000:] ** 2)
