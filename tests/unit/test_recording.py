from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SMALL_MODEL
from streams import as_recording, in_chunks, whole

from rtden import Settings, StreamDenoiser, backward, denoise, denoise_file
from rtden.recording import LEAD_IN_SECONDS, RecordingDenoiser

RATE_HZ = 16000
LEAD_IN = round(LEAD_IN_SECONDS * RATE_HZ)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    values = np.random.default_rng(7).standard_normal((samples, channels))
    return (0.05 * values).astype(np.float32)


def stream(model: str | Path, channels: int = 1, batch_steps: int = 1) -> StreamDenoiser:
    return StreamDenoiser(model, rate_hz=RATE_HZ, channels=channels, batch_steps=batch_steps)


@pytest.mark.parametrize("samples", [0, 1, 500, LEAD_IN - 1, LEAD_IN, LEAD_IN + 1, 50000])
def test_a_recording_is_a_stream_after_its_own_beginning(samples: int) -> None:
    """Of a network that takes whole windows; others take a second pass from the end."""
    signal = noise(samples, channels := 2 if samples < 1000 else 1)
    expected = as_recording(stream(SMALL_MODEL, channels), signal, RATE_HZ)
    assert expected.shape == signal.shape
    for chunk in (777, LEAD_IN, 50000):
        made = in_chunks(
            RecordingDenoiser(stream(SMALL_MODEL, channels, batch_steps=16)), signal, chunk
        )
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("samples", [0, 1, 500, LEAD_IN, 40000])
def test_any_blocks_of_a_recording_give_the_same_samples_to_the_bit(
    samples: int,
    carried_model: Path,
    recordings: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of one of several spans of the pass from its end, short spans here."""
    monkeypatch.setattr(backward, "SPAN_FRAMES", 144)
    monkeypatch.setattr(backward, "AHEAD_FRAMES", 64)
    model, channels = ("rtden", 1) if samples > LEAD_IN else (carried_model, 2)
    starts = (20000, 70000)[:channels]
    signal = np.stack([recordings[1][at : at + samples] for at in starts], axis=1)
    made = [
        in_chunks(RecordingDenoiser(stream(model, channels, steps)), signal, chunk)
        for steps, chunk in ((1, 7777), (64, LEAD_IN), (16, 300000))
    ]
    assert made[0].shape == signal.shape
    for other in made[1:]:
        np.testing.assert_array_equal(other, made[0])


def test_the_noise_is_taken_off_from_the_first_sample_on(tmp_path: Path) -> None:
    signal, beginning = noise(2 * RATE_HZ), RATE_HZ // 10
    soundfile.write(tmp_path / "in.wav", signal, RATE_HZ, subtype="FLOAT")
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav")
    written, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    at_once = denoise(signal, RATE_HZ)
    np.testing.assert_array_equal(written, at_once)
    levels_db = [
        10.0 * np.log10(np.mean(out[:beginning] ** 2) / np.mean(signal[:beginning] ** 2))
        for out in (at_once, whole(stream("rtden"), signal))
    ]
    assert levels_db[0] < levels_db[1] - 4.0
    assert levels_db[0] < -20.0


def test_nothing_of_a_later_sound_leaks_into_the_beginning() -> None:
    signal = noise(3 * RATE_HZ)
    signal[: RATE_HZ // 2] = 0.0
    assert np.abs(denoise(signal, RATE_HZ)[: RATE_HZ // 4]).max() < 1e-9


def test_a_files_statistics_do_not_count_the_lead_in(tmp_path: Path) -> None:
    signal, seen = noise(3 * RATE_HZ), []
    signal[100] = 1.5
    soundfile.write(tmp_path / "in.wav", signal, RATE_HZ, subtype="FLOAT")
    report = denoise_file(
        tmp_path / "in.wav",
        tmp_path / "out.flac",
        settings=Settings(limit_db=0.0),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report.notes[0].startswith("1 samples above full scale")
    assert report.seconds == 3.0
    assert abs(report.noise_removed_db) <= 0.25  # a step of the meter
    assert seen[-1] == (len(signal), len(signal))


def test_a_second_pass_takes_off_what_the_first_one_leaves(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = (recording[:100000] for recording in recordings)
    noisy = clean + 2.0 * (noisy - clean)  # much is left, then
    once, twice = (RecordingDenoiser(StreamDenoiser(rate_hz=22050)) for _ in range(2))
    del once._passes[0]
    heard, again = (in_chunks(each, noisy[:, None], 10**6)[:, 0] for each in (once, twice))
    pauses = np.convolve(clean**2, np.ones(512), "same") < 1e-3 * 512 * np.mean(clean**2)
    assert np.std(again[pauses]) < 0.85 * np.std(heard[pauses])
    assert np.std(again) > 0.9 * np.std(heard), "speech stays"


@pytest.mark.parametrize("limit_db", [3.0, 12.0])
def test_both_passes_together_keep_the_limit(limit_db: float) -> None:
    signal = noise(7 * RATE_HZ)[:, 0]
    out = denoise(signal, RATE_HZ, settings=Settings(limit_db=limit_db))
    end = slice(4 * RATE_HZ, 6 * RATE_HZ)
    taken_db = 20.0 * np.log10(np.std(signal[end]) / np.std(out[end]))
    assert taken_db == pytest.approx(limit_db, abs=0.3)


def test_without_strength_the_input_comes_back_to_the_bit() -> None:
    signal = noise(3 * RATE_HZ)
    np.testing.assert_array_equal(denoise(signal, RATE_HZ, settings=Settings(strength=0.0)), signal)
