from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from streams import masks_of
from training_target import target

from rtden import Denoiser, Settings
from rtden.griffinlim import Inverter
from rtden.mel import BandSpread
from rtden.model import ModelSpec, find_model
from rtden.spectral import stft
from rtden.training.loss import Loss
from rtden.training.signal_path import SignalPath

SPEC = ModelSpec(name="tiny", mean_db=-30.0)
FINER = ModelSpec(name="tiny", mean_db=-30.0, hop=256)
LEAD_IN = SPEC.n_fft - SPEC.hop
by_spec = pytest.mark.parametrize("spec", [SPEC, FINER], ids=lambda spec: f"hop {spec.hop}")


def invert(spec: ModelSpec, noisy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return denoised signals with the longest overlap."""
    given = target(spec, noisy, noisy)
    path = SignalPath(spec)
    return np.asarray(path(noisy, mask, given["analysis"], given["synthesis"]))


@pytest.mark.parametrize("model", ["seed", "rtden"])
def test_it_gives_what_the_denoiser_gives(
    recordings: tuple[np.ndarray, np.ndarray], model: str
) -> None:
    denoiser = Denoiser(model, Settings(iterations=0))
    lead_in = denoiser.spec.n_fft - denoiser.spec.hop
    noisy = recordings[1][: 80 * denoiser.spec.hop - lead_in]
    expected = np.concatenate([denoiser.feed(noisy), denoiser.flush()])
    stream = np.concatenate([np.zeros(lead_in, np.float32), noisy])
    share = masks_of(find_model(model), np.concatenate([stream, np.zeros(lead_in, np.float32)]))[
        None
    ]
    ours = invert(denoiser.spec, stream[None], share)[0]
    np.testing.assert_allclose(ours[lead_in:], expected, atol=1e-5)


@pytest.mark.parametrize("overlap", [149, 405])
def test_with_a_short_overlap_it_gives_what_the_inverter_gives(
    rng: np.random.Generator, overlap: int
) -> None:
    """Of a mask that changes from frame to frame."""
    count, lead_in = 20, FINER.n_fft - FINER.hop
    noisy = rng.standard_normal((1, count * FINER.hop)).astype(np.float32)
    noisy[:, :lead_in] = 0.0
    mask = rng.uniform(0.1, 1.0, (1, FINER.n_mels, count, 1)).astype(np.float32)
    given = target(FINER, noisy, noisy, overlap=overlap)
    path = SignalPath(FINER)
    ours = np.asarray(path(noisy, mask, given["analysis"], given["synthesis"]))[0]
    inverter = Inverter(
        n_fft=FINER.n_fft, hop=FINER.hop, new_frames=count, iterations=0, frames=1, overlap=overlap
    )
    gains = np.empty((count, FINER.n_fft // 2 + 1), np.float32)
    spread = BandSpread(FINER.rate_hz, FINER.n_fft, FINER.n_mels, FINER.fmin_hz, FINER.fmax_hz)
    spread(mask[0, :, :, 0].T, gains)
    stream = np.concatenate([noisy[0], np.zeros(lead_in, np.float32)])
    frames = np.lib.stride_tricks.sliding_window_view(stream, FINER.n_fft)[:: FINER.hop]
    spectra = stft(frames[:count], given["analysis"][0])
    expected = np.empty(count * FINER.hop, np.float32)
    inverter.push(spectra, gains, expected)
    # A push completes the samples that end `overlap` before its last frame does.
    late = FINER.n_fft - FINER.hop - overlap
    np.testing.assert_allclose(ours[late:], expected[: len(ours) - late], atol=1e-4)


def test_near_silence_gradients_through_the_contrast_are_finite(rng: np.random.Generator) -> None:
    spec = replace(FINER, contrast=2.5)
    noisy = rng.standard_normal((1, 40 * spec.hop)).astype(np.float32)
    for start, level in enumerate((0.0, 1e-20, 1e-15, 1e-8)):
        noisy[:, 5 * start * spec.hop : 5 * (start + 1) * spec.hop] *= np.float32(level)
    given, path = target(spec, noisy, noisy), SignalPath(spec)
    mask = keras.Variable(rng.uniform(0.0, 1.0, (1, spec.n_mels, 40, 1)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(mask.value)
        found = tf.reduce_sum(path(noisy, mask.value, given["analysis"], given["synthesis"]) ** 2)
    gradient = np.asarray(tape.gradient(found, mask.value))
    assert np.isfinite(gradient).all()
    assert gradient[:, :, 25:].any()


@by_spec
def test_a_share_of_one_gives_the_input(rng: np.random.Generator, spec: ModelSpec) -> None:
    noisy = rng.standard_normal((2, 20 * spec.hop)).astype(np.float32)
    noisy[:, : spec.n_fft - spec.hop] = 0.0
    ones = np.ones((2, spec.n_mels, 20, 1), np.float32)
    np.testing.assert_allclose(invert(spec, noisy, ones), noisy, atol=1e-4)


def test_the_clean_signal_has_the_least_loss(rng: np.random.Generator) -> None:
    loss = Loss(SPEC)
    clean = rng.standard_normal((2, 20 * SPEC.hop)).astype(np.float32)
    clean[:, :LEAD_IN] = 0.0
    given = target(SPEC, clean, clean)
    found = {
        s: float(loss(given, np.full((2, SPEC.n_mels, 20, 1), s, np.float32)))
        for s in (1.0, 0.8, 0.5, 0.1)
    }
    assert found[1.0] < 1e-4
    assert found[1.0] < found[0.8] < found[0.5] < found[0.1]


def test_invalid_bins_do_not_count(rng: np.random.Generator) -> None:
    loss = Loss(SPEC)
    clean = rng.standard_normal((1, 20 * SPEC.hop)).astype(np.float32)
    nothing = np.zeros((1, SPEC.n_fft // 2 + 1), np.float32)
    given = target(SPEC, clean, clean, valid_bins=nothing)
    assert float(loss(given, np.zeros((1, SPEC.n_mels, 20, 1), np.float32))) == 0.0


def test_it_weighs_the_parts_that_are_asked_for(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    samples = 120 * SPEC.hop
    clean, noisy = (signal[None, 40 * SPEC.hop :][:, :samples] for signal in recordings)
    level = np.sqrt(np.mean(clean**2))
    clean, noisy = clean / level, noisy / level
    share = np.full((1, SPEC.n_mels, 120, 1), 0.7, np.float32)
    given = target(SPEC, noisy, clean)
    plain = float(Loss(SPEC)(given, share))
    for name in ("distortion", "pesq", "stoi", "dnsmos", "p808"):
        loss = Loss(SPEC, **{name: 0.1})
        parts = loss.parts(invert(SPEC, noisy, share), clean, given["valid_bins"])
        assert set(parts) == {"spectral_distance", name}
        weighted = 0.1 * float(parts[name])
        assert float(loss(given, share)) == pytest.approx(plain + weighted, rel=1e-4)


@pytest.mark.parametrize("part", ["dnsmos", "p808"])
def test_without_its_costly_parts_it_leaves_dnsmos_out(rng: np.random.Generator, part: str) -> None:
    signal = rng.standard_normal((1, 40 * SPEC.hop)).astype(np.float32)
    half = np.full((1, SPEC.n_mels, 40, 1), 0.5, np.float32)
    given = target(SPEC, signal, signal)
    plain = float(Loss(SPEC)(given, half))
    loss = Loss(SPEC, **{part: 0.1})
    assert float(loss(given, half, costly=False)) == pytest.approx(plain, rel=1e-5)
    assert float(loss(given, half)) > plain + 0.05


def test_a_few_mixtures_are_scored(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    both = np.stack([signal[: 120 * SPEC.hop] for signal in recordings])
    both /= np.sqrt(np.mean(both[0] ** 2))
    clean, valid_bins = both[[0, 0]], np.ones((2, SPEC.n_fft // 2 + 1), np.float32)
    one, two = (
        Loss(SPEC, count, dnsmos=1.0, p808=1.0).parts(both, clean, valid_bins) for count in (1, 2)
    )
    for part in ("dnsmos", "p808"):
        assert float(one[part]) < float(two[part]) - 0.2, "the noisy one counts, too"


def test_mixtures_without_speech_have_no_score(rng: np.random.Generator) -> None:
    noise = 0.1 * rng.standard_normal((2, 120 * SPEC.hop)).astype(np.float32)
    parts = Loss(SPEC, stoi=1.0, dnsmos=1.0, p808=1.0).parts(
        noise, np.zeros_like(noise), np.ones((2, SPEC.n_fft // 2 + 1), np.float32)
    )
    assert float(parts["stoi"]) == float(parts["dnsmos"]) == float(parts["p808"]) == 0.0


@pytest.mark.parametrize("what", ["speech", "silence", "noise alone"])
@pytest.mark.parametrize("part", ["distortion", "pesq", "stoi", "dnsmos", "p808"])
def test_gradients_are_finite(rng: np.random.Generator, part: str, what: str) -> None:
    sound = rng.standard_normal((1, 60 * SPEC.hop)).astype(np.float32)
    clean = sound * np.float32(what == "speech")
    ours = keras.Variable(sound if what == "noise alone" else 0.9 * clean)
    loss, valid_bins = Loss(SPEC, **{part: 1.0}), np.ones((1, SPEC.n_fft // 2 + 1), np.float32)
    with tf.GradientTape() as tape:
        tape.watch(ours.value)
        found = loss.parts(ours.value, clean, valid_bins)[part]
    gradient = np.asarray(tape.gradient(found, ours.value))
    assert np.isfinite(np.asarray(found)).all()
    assert np.isfinite(gradient).all()
    if what == "speech":
        assert gradient.any()


def test_a_gradient_leads_to_the_best_share(rng: np.random.Generator) -> None:
    """Noise above 4 kHz, a voice below: the share learns to open below and to close above."""
    seconds = np.arange(20 * SPEC.hop) / SPEC.rate_hz
    harmonics = np.arange(1, 8)[:, None]
    clean = np.sin(2 * np.pi * 200 * harmonics * seconds).sum(0, np.float32)[None]
    hiss = np.fft.rfft(rng.standard_normal(clean.shape[1]))
    hiss[np.fft.rfftfreq(clean.shape[1], 1 / SPEC.rate_hz) < 4000] = 0
    noisy = clean + np.fft.irfft(hiss, clean.shape[1]).astype(np.float32)[None]
    inputs = keras.Input((SPEC.n_mels, 20, 1))
    model = keras.Model(
        inputs, keras.layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="zeros")(inputs)
    )
    loss = Loss(SPEC)
    given = target(SPEC, noisy, clean)
    model.compile(keras.optimizers.Adam(0.3), lambda _, share: loss(given, share))
    low = np.where(np.arange(SPEC.n_mels) < 75, 1.0, -1.0).astype(
        np.float32
    )  # which side of 4 kHz a band lies
    features = np.broadcast_to(low[None, :, None, None], (1, SPEC.n_mels, 20, 1))
    for _ in range(40):
        model.train_on_batch(features, noisy)
    share = np.asarray(model(features))[0, :, 0, 0]
    assert share[:70].min() > 0.85
    assert share[95:].max() < 0.2
