from __future__ import annotations

import array
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ended, run_python
from conftest import SMALL_MODELS
from properties import given, settings, st

from rtden import Denoiser, FrameDenoiser, Settings, StreamDenoiser, denoise
from rtden.errors import InputError, SettingsError
from rtden.measure.metrics import si_sdr_db
from rtden.recording import RecordingDenoiser
from rtden.samples import from_float

RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)
UNTOUCHED = Settings(limit_db=0.0)
SCALES = {"int16": 2**15, "int32": 2**31, "float32": 1, "float64": 1}


def frames_of(signal: np.ndarray, samples: int) -> list[np.ndarray]:
    return [signal[at : at + samples] for at in range(0, len(signal), samples)]


def as_type(signal: np.ndarray, name: str) -> np.ndarray:
    scale = SCALES[name]
    return (signal * scale).astype(name) if scale > 1 else signal.astype(name)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_impulse_comes_out_after_the_stated_latency_in_frames_of_any_length(
    rate_hz: int,
) -> None:
    at, frames = rate_hz // 4 + 7, FrameDenoiser(rate_hz, settings=UNTOUCHED)
    impulse = np.zeros(rate_hz // 2, np.float32)
    impulse[at] = 0.5
    latency = round(frames.latency_ms * rate_hz / 1000.0)
    assert 40.0 < frames.latency_ms + 0.1 < 50.0
    outputs = []
    for length in (171, rate_hz // 100, rate_hz // 50, 3 * rate_hz // 100, rate_hz // 3):
        frames.reset()
        out = np.concatenate([frames.process(frame) for frame in frames_of(impulse, length)])
        assert int(np.argmax(np.abs(out))) == at + latency
        outputs.append(out)
    assert all(np.array_equal(out, outputs[0]) for out in outputs)


def test_the_latency_is_the_least_that_never_runs_dry() -> None:
    frames, least = FrameDenoiser(48000, model=SMALL_MODELS[0], settings=UNTOUCHED), 10**9
    for length in np.random.default_rng(0).integers(1, 40, 2000):
        frames.process(np.zeros(length, np.float32))
        least = min(least, len(frames._ready))
    assert 0 <= least < 20


@settings(max_examples=25)
@given(
    st.sampled_from(RATES_HZ),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(sorted(SCALES)),
    st.lists(st.integers(0, 700), min_size=1, max_size=30),
)
def test_every_frame_comes_back_in_its_type_and_shape_and_the_stream_is_denoised(
    rate_hz: int, channels: int, name: str, lengths: list[int]
) -> None:
    rng = np.random.default_rng(len(lengths))
    signal = as_type(rng.normal(0.0, 0.1, (sum(lengths), channels)).clip(-1, 1), name)
    ends = np.cumsum(lengths)
    shaped = FrameDenoiser(rate_hz, channels, model=SMALL_MODELS[0])
    flat = FrameDenoiser(rate_hz, channels, model=SMALL_MODELS[0])
    for length, end in zip(lengths, ends, strict=True):
        frame = signal[end - length : end]
        out = shaped.process(frame)
        assert (out.shape, out.dtype) == (frame.shape, frame.dtype)
        assert np.array_equal(flat.process(frame.reshape(-1)), out.reshape(-1))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_16_bit_samples_and_come_back_as_they_came(kind: Any) -> None:
    signal = (3000 * np.random.default_rng(0).standard_normal((1600, 2))).astype("<i2")
    by_array, by_bytes = FrameDenoiser(16000, 2), FrameDenoiser(16000, 2)
    for frame in frames_of(signal, 320):
        out = by_bytes.process(kind(frame.tobytes()))
        assert isinstance(out, kind)
        assert bytes(out) == by_array.process(frame).tobytes()
    view = memoryview(signal[:320].copy().reshape(-1))
    out = by_bytes.process(view)
    assert (out.format, out.shape) == (view.format, view.shape)


def test_the_beginning_is_silence_and_what_follows_is_what_a_stream_returns(
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    clean, noisy = (signal[:60000] for signal in recordings)
    frames = FrameDenoiser(22050)
    out = np.concatenate([frames.process(frame) for frame in frames_of(noisy, 441)])
    latency = round(frames.latency_ms * 22.05)
    assert not out[:latency].any()
    expected = Denoiser(settings=frames.stream.denoisers[0].settings).feed(noisy)
    assert np.array_equal(out[latency:], expected[: len(out) - latency])
    assert si_sdr_db(clean[:-latency], out[latency:]) > si_sdr_db(clean, noisy) + 3.0


def test_integers_are_rounded_and_saturate() -> None:
    square = np.sign(np.sin(np.arange(16000) / 20)) * 32767  # which overshoots when resampled
    for name, factor in (("int16", 1), ("int32", 65536)):
        frames = FrameDenoiser(16000, settings=UNTOUCHED)
        out = frames.process((square * factor).astype(name))[4000:].astype(np.float64)
        before = square[4000 - frames.latency.samples :][: len(out)]
        assert (out * before).min() > 0.0  # nothing wrapped around
        assert (out.min(), out.max()) == (np.iinfo(name).min, np.iinfo(name).max)
    numbers = np.array([-1.5, -1.0, -0.6 / 32768, 0.6 / 32768, 1.0, 1.5], np.float32)
    assert from_float(numbers, np.dtype("int16")).tolist() == [-32768, -32768, -1, 1, 32767, 32767]


def test_strength_limit_and_reset(noise: np.ndarray) -> None:
    with FrameDenoiser(22050, settings=Settings(strength=0.5, limit_db=20.0)) as frames:
        assert (frames.strength, frames.limit_db) == (0.5, 20.0)
        first = frames.process(noise)
        frames.reset()
        assert np.array_equal(frames.process(noise), first)
        frames.reset()
        frames.strength = 0.0
        latency = frames.latency.samples
        assert np.array_equal(frames.process(noise)[latency:], noise[:-latency])
        with pytest.raises(SettingsError, match="strength"):
            frames.strength = 2.0
        with pytest.raises(SettingsError, match="limit_db"):
            frames.limit_db = -1.0
    assert not frames.process(np.zeros(100, np.float32)).any()


def test_a_longer_latency_is_used_and_a_shorter_one_kept() -> None:
    assert FrameDenoiser(22050, latency_ms=50.0).latency_ms > 45.0
    assert FrameDenoiser(22050, latency_ms=25.0).latency_ms <= 25.0


@pytest.mark.parametrize(("hops_per_step", "overlap"), [(1, 626), (2, 370)])
def test_hops_per_step_change_neither_the_latency_nor_where_the_sound_lies(
    noise: np.ndarray, hops_per_step: int, overlap: int
) -> None:
    frames = FrameDenoiser(22050, settings=UNTOUCHED, hops_per_step=hops_per_step)
    assert frames.stream.denoisers[0].settings.overlap_samples == overlap
    assert frames.latency.samples == 881
    out = np.concatenate([frames.process(frame) for frame in frames_of(noise, 441)])
    np.testing.assert_allclose(out[881:], noise[:-881], atol=1e-5)
    with pytest.raises(SettingsError, match="hops_per_step"):
        FrameDenoiser(hops_per_step=0)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"abc", "ends within a sample of 16 bits; pass whole samples"),
        (bytes(2), "no multiple of 2 channels; pass as many samples of each"),
        (np.zeros((10, 3), np.int16), r"\(samples, 2\), not \(10, 3\)\.$"),
        (np.zeros((2, 10), np.int16), r"not \(2, 10\); pass frame\.T"),
        (np.zeros((2, 5, 2), np.int16), r"not \(2, 5, 2\)\.$"),
        (np.zeros(10, np.uint8), "not uint8"),
        (np.zeros(10, complex), "not complex128"),
        ([0.0, 0.0], r"not list; pass numpy\.asarray\(frame\)"),
        (array.array("h", [0, 0]), r"not array; pass numpy\.asarray\(frame\)"),
        ("noisy.wav", r"not str\.$"),
        (np.full(960, 9000.0, np.float32), r"full scale is \+-1"),
    ],
)
def test_a_frame_that_cannot_be_one_is_refused_in_a_sentence(frame: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        FrameDenoiser(16000, 2).process(frame)


@pytest.mark.parametrize(
    ("name", "rate_hz"), [*zip(sorted(SCALES), (8000, 22050, 48000, 8000), strict=True)]
)
def test_denoise_returns_what_it_was_given_where_nothing_may_be_taken_off(
    name: str, rate_hz: int, carried_model: Path
) -> None:
    t = np.arange(rate_hz // 2) / rate_hz
    voices = [0.3 * np.sin(2 * np.pi * hz * t) * np.sin(2 * np.pi * t) ** 2 for hz in (440, 700)]
    for signal in (voices[0], np.stack(voices, axis=1), voices[0][:1], voices[0][:0]):
        given_ = as_type(signal, name)
        out = denoise(given_, rate_hz, model=carried_model, settings=UNTOUCHED)
        assert (out.shape, out.dtype) == (given_.shape, given_.dtype)
        if len(signal) > 1:
            error = out.astype(float) - given_
            assert np.abs(error).max() < 1e-3 * SCALES[name]


def test_denoise_takes_noise_off_and_is_aligned(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    clean, noisy = (recording[:50000] for recording in recordings)
    out = denoise(noisy, 22050)
    assert si_sdr_db(clean, out) > si_sdr_db(clean, noisy) + 3.0
    recording = RecordingDenoiser(StreamDenoiser(rate_hz=22050, batch_steps=1))
    ready = [recording.feed(noisy[:, None]), recording.flush()]
    assert np.array_equal(out, np.concatenate(ready)[:, 0])
    in_16_bits = denoise((noisy * 32768).astype(np.int16), 22050)
    np.testing.assert_allclose(in_16_bits / 32768, out, atol=2e-3)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "sentence"),
    [
        (np.zeros((2, 3, 4)), 16000, "not \\(2, 3, 4\\)"),
        (np.zeros(100, np.uint8), 16000, "not uint8"),
        (np.zeros(100), 7999, "7999 Hz is outside"),
        (np.zeros(100), 44100.5, "whole number"),
        (3000.0 * np.sin(np.arange(1000)), 16000, r"full scale is \+-1"),
    ],
)
def test_denoise_refuses_what_it_cannot_take(
    samples: np.ndarray, rate_hz: int, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        denoise(samples, rate_hz)


def test_32_streams_in_threads_are_those_of_one_thread() -> None:
    rng = np.random.default_rng(3)
    signals = (3000 * rng.standard_normal((32, 4000))).astype(np.int16)

    def run(number: int) -> bytes:
        rate_hz = (16000, 48000)[number % 2]
        frames = FrameDenoiser(rate_hz)
        pieces = frames_of(signals[number], rate_hz // 50)
        return b"".join(frames.process(piece.tobytes()) for piece in pieces)

    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(run, range(32)))
    assert together == [run(number) for number in range(32)]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts memory by Linux's /proc")
def test_a_further_stream_costs_little() -> None:
    """State under 2 MiB, made in the CPU time of 12 frames, reset in that of half of one."""
    code = """if True:
    import resource, time
    import numpy as np
    from rtden import FrameDenoiser
    def rss():
        return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
    first = [FrameDenoiser(48000) for _ in range(5)]
    frame = np.random.default_rng(0).standard_normal(960).astype(np.float32) * 0.1
    for _ in range(20):
        [one.process(frame) for one in first]
    before, began = rss(), time.process_time()
    more = [FrameDenoiser(48000) for _ in range(50)]
    made = (time.process_time() - began) / 50
    began = time.process_time()
    for _ in range(20):
        [one.process(frame) for one in more]
    step = (time.process_time() - began) / 1000
    grown, began = (rss() - before) / 50, time.process_time()
    for one in more:
        one.reset()
    print(grown, made / step, (time.process_time() - began) / 50 / step)
    """
    out = run_python(code)
    mib, made_frames, reset_frames = map(float, out.stdout.split())
    assert mib < 2.0
    assert made_frames < 12.0
    assert reset_frames < 0.5


def test_nothing_of_the_process_is_changed_and_no_stderr_is_needed(tmp_path: Path) -> None:
    code = """if True:
    import gc, os, sys
    import numpy as np
    environment, limits = dict(os.environ), gc.get_threshold()
    frozen = gc.get_freeze_count()
    def opened(path, *args, was=os.dup2):
        raise SystemExit("file descriptors are redirected")
    os.dup2 = os.dup = opened
    sys.stderr = None
    from rtden import FrameDenoiser, denoise
    frames = FrameDenoiser(16000)
    frames.process(bytes(640))
    denoise(np.zeros(1000, np.float32), 48000)
    assert dict(os.environ) == environment and gc.get_threshold() == limits and gc.isenabled()
    assert gc.get_freeze_count() == frozen
    print(len(frames.process(bytes(640))))
    """
    out = run_python(code, check=False)
    assert out.stdout.strip() == "640", out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_stream_goes_on_in_a_forked_child() -> None:
    code = """if True:
    import os, threading
    import numpy as np
    from rtden import FrameDenoiser
    signal = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1
    def run(frames):
        return frames.process(signal)
    frames, other = FrameDenoiser(16000), FrameDenoiser(16000)
    busy = threading.Thread(target=lambda: [run(other) for _ in range(5)])
    first = run(frames); expected = run(frames); frames.reset(); run(frames)
    busy.start()
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(run(frames), expected) else 1)
    busy.join()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    out = ended([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert out.stdout.strip() == "0", out
