from __future__ import annotations

import keras
import numpy as np
import pytest
from conftest import frames_of, shares_of

from rtden import Denoiser, Settings
from rtden.griffinlim import Inverter
from rtden.mel import BandSpread
from rtden.model import ModelSpec, find_model
from rtden.training.losses import Inversion, Loss

SPEC = ModelSpec(name="tiny", mean_db=-30.0)
FINER = ModelSpec(name="tiny", mean_db=-30.0, frames_per_column=2)
LEAD_IN = SPEC.n_fft - SPEC.hop
by_spec = pytest.mark.parametrize(
    "spec", [SPEC, FINER], ids=lambda spec: f"{spec.frames_per_column} a column"
)


@pytest.mark.parametrize("model", ["seed", "rtden"])
def test_it_gives_what_the_denoiser_gives(
    recordings: tuple[np.ndarray, np.ndarray], model: str
) -> None:
    denoiser = Denoiser(model, Settings(iterations=0))
    lead_in = denoiser.spec.n_fft - denoiser.spec.frame_hop
    noisy = recordings[1][: 40 * denoiser.spec.hop - lead_in]
    expected = np.concatenate([denoiser.feed(noisy), denoiser.flush()])
    stream = np.concatenate([np.zeros(lead_in, np.float32), noisy])
    share = shares_of(find_model(model), np.concatenate([stream, np.zeros(lead_in, np.float32)]))[
        None
    ]
    ours = np.asarray(Inversion(denoiser.spec, iterations=0)(stream[None], share))[0]
    np.testing.assert_allclose(ours[lead_in:], expected, atol=1e-5)


@by_spec
def test_its_griffin_lim_is_the_products(rng: np.random.Generator, spec: ModelSpec) -> None:
    columns, frames, lead_in = 20, 20 * spec.frames_per_column, spec.n_fft - spec.frame_hop
    noisy = rng.standard_normal((1, columns * spec.hop)).astype(np.float32)
    noisy[:, :lead_in] = 0.0  # the silence that precedes every stream
    share = rng.uniform(0.05, 1.0, (1, spec.n_mels, columns, spec.frames_per_column)).astype(
        np.float32
    )
    ours = np.asarray(Inversion(spec, iterations=3)(noisy, share))[0]
    overlap = spec.n_fft - spec.hop
    inverter = Inverter(
        n_fft=spec.n_fft,
        hop=spec.frame_hop,
        new_frames=frames,
        iterations=3,
        frames=frames,
        overlap=overlap,
    )
    gains = np.empty((frames, spec.n_fft // 2 + 1), np.float32)
    BandSpread(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)(
        share[0].reshape(spec.n_mels, -1).T, gains
    )
    expected = np.empty(columns * spec.hop, np.float32)
    inverter.push(
        frames_of(spec, np.concatenate([noisy[0], np.zeros(lead_in, np.float32)])), gains, expected
    )
    # What a push completes ends `overlap` before its last frame does: with two frames a column it
    # begins and ends later than the signal here.
    late = lead_in - overlap
    ours, expected = ours[late:], expected[: len(ours) - late]
    np.testing.assert_allclose(
        ours, expected, atol=5e-3
    )  # at the very end the product divides by windows nearer to zero
    np.testing.assert_allclose(ours[: -2 * spec.hop], expected[: -2 * spec.hop], atol=1e-4)


@by_spec
@pytest.mark.parametrize("iterations", [0, 2])
def test_a_share_of_one_gives_the_input(
    rng: np.random.Generator, iterations: int, spec: ModelSpec
) -> None:
    noisy = rng.standard_normal((2, 20 * spec.hop)).astype(np.float32)
    noisy[:, : spec.n_fft - spec.frame_hop] = 0.0
    ones = np.ones((2, spec.n_mels, 20, spec.frames_per_column), np.float32)
    ours = np.asarray(Inversion(spec, iterations=iterations)(noisy, ones))
    np.testing.assert_allclose(ours, noisy, atol=1e-4)


@pytest.mark.parametrize(("iterations", "resolutions"), [(0, ()), (1, ()), (0, (512, 2048))])
def test_the_clean_signal_has_the_least_loss(
    rng: np.random.Generator, iterations: int, resolutions: tuple[int, ...]
) -> None:
    loss = Loss(SPEC, iterations=iterations, resolutions=resolutions)
    clean = rng.standard_normal((2, 20 * SPEC.hop)).astype(np.float32)
    clean[:, :LEAD_IN] = 0.0
    heard = np.ones((2, SPEC.n_fft // 2 + 1), np.float32)
    found = {
        s: float(loss(clean, clean, heard, np.full((2, SPEC.n_mels, 20, 1), s, np.float32)))
        for s in (1.0, 0.8, 0.5, 0.1)
    }
    assert found[1.0] < 1e-4
    assert found[1.0] < found[0.8] < found[0.5] < found[0.1]


def test_what_is_not_heard_does_not_count(rng: np.random.Generator) -> None:
    loss = Loss(SPEC, iterations=0)
    clean = rng.standard_normal((1, 20 * SPEC.hop)).astype(np.float32)
    nothing = np.zeros((1, SPEC.n_fft // 2 + 1), np.float32)
    assert float(loss(clean, clean, nothing, np.zeros((1, SPEC.n_mels, 20, 1), np.float32))) == 0.0


def test_it_weighs_the_parts_that_are_asked_for(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    samples = 120 * SPEC.hop
    clean, noisy = (signal[None, 40 * SPEC.hop :][:, :samples] for signal in recordings)
    level = np.sqrt(np.mean(clean**2))
    clean, noisy, share = (
        clean / level,
        noisy / level,
        np.full((1, SPEC.n_mels, 120, 1), 0.7, np.float32),
    )
    heard = np.ones((1, SPEC.n_fft // 2 + 1), np.float32)
    plain = float(Loss(SPEC, iterations=0)(noisy, clean, heard, share))
    wanted = {
        "distortion": "distortion",
        "loudness": "disturbance",
        "intelligibility": "unintelligible",
        "opinion": "disapproval",
    }
    for setting, name in wanted.items():
        loss = Loss(SPEC, iterations=0, **{setting: 0.1})
        parts = loss.parts(loss.invert(noisy, share), clean, heard)
        assert set(parts) == {"spectral_distance", name}
        assert float(loss(noisy, clean, heard, share)) == pytest.approx(
            plain + 0.1 * float(parts[name]), rel=1e-4
        )


def test_nobody_is_asked_about_speech_where_there_is_none(rng: np.random.Generator) -> None:
    noise = 0.1 * rng.standard_normal((2, 120 * SPEC.hop)).astype(np.float32)
    parts = Loss(SPEC, iterations=0, intelligibility=1.0, opinion=1.0).parts(
        noise, np.zeros_like(noise), np.ones((2, SPEC.n_fft // 2 + 1), np.float32)
    )
    assert float(parts["unintelligible"]) == float(parts["disapproval"]) == 0.0


def test_a_gradient_leads_to_the_best_share(rng: np.random.Generator) -> None:
    """Noise above 4 kHz, a voice below: the share learns to open below and to close above."""
    seconds = np.arange(20 * SPEC.hop) / SPEC.rate_hz
    clean = sum(np.sin(2 * np.pi * 200 * k * seconds) for k in range(1, 8)).astype(np.float32)[None]
    hiss = np.fft.rfft(rng.standard_normal(clean.shape[1]))
    hiss[np.fft.rfftfreq(clean.shape[1], 1 / SPEC.rate_hz) < 4000] = 0
    noisy = clean + np.fft.irfft(hiss, clean.shape[1]).astype(np.float32)[None]
    inputs = keras.Input((SPEC.n_mels, 20, 1))
    model = keras.Model(
        inputs, keras.layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="zeros")(inputs)
    )
    loss = Loss(SPEC, iterations=1)
    heard = np.ones((1, SPEC.n_fft // 2 + 1), np.float32)
    model.compile(keras.optimizers.Adam(0.3), lambda _, share: loss(noisy, clean, heard, share))
    low = np.where(np.arange(SPEC.n_mels) < 75, 1.0, -1.0).astype(
        np.float32
    )  # which side of 4 kHz a band lies
    features = np.broadcast_to(low[None, :, None, None], (1, SPEC.n_mels, 20, 1))
    for _ in range(40):
        model.train_on_batch(features, noisy)
    share = np.asarray(model(features))[0, :, 0, 0]
    assert share[:70].min() > 0.85
    assert share[95:].max() < 0.2
