"""What a caller may hand over by mistake: refused in a sentence, and no stream is harmed by it."""

from __future__ import annotations

import array
import contextlib
import copy
import decimal
import fractions
import functools
import io
import json
import numbers
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run_python
from conftest import DATA, SMALL_MODELS

import rtden
from rtden import Denoiser, FrameDenoiser, Settings, StreamDenoiser, denoise
from rtden.errors import AudioFileError, InputError, ModelError, RtdenError, SettingsError
from rtden.model import load_model

MODEL = SMALL_MODELS[0]
SOUND = (0.1 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)
PCM: Any = (SOUND * 32767).astype(np.int16)
NO_NUMBERS: list[Any] = [None, "16000", b"2", [16000], np.array([2]), {}, 1j, True, "x"]
ODD_NUMBERS = [0, -1, 1.5, float("nan"), float("inf"), 10**400, decimal.Decimal("1.5")]
STREAMS: dict[str, Callable[[], Any]] = {
    "Denoiser": lambda: Denoiser(MODEL),
    "StreamDenoiser": lambda: StreamDenoiser(MODEL, rate_hz=16000),
    "FrameDenoiser": lambda: FrameDenoiser(16000, model=MODEL),
}


def fed(name: str, stream: Any, samples: Any) -> Any:
    return stream.process(samples) if name == "FrameDenoiser" else stream.feed(samples)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda value: FrameDenoiser(value, model=MODEL), InputError),
        (lambda value: FrameDenoiser(channels=value, model=MODEL), InputError),
        (lambda value: FrameDenoiser(hops_per_step=value, model=MODEL), SettingsError),
        (lambda value: StreamDenoiser(MODEL, rate_hz=value), InputError),
        (lambda value: StreamDenoiser(MODEL, rate_hz=16000, channels=value), InputError),
        (lambda value: denoise(SOUND, value, model=MODEL), InputError),
        (lambda value: Denoiser(MODEL, batch_steps=value), SettingsError),
        (lambda value: Denoiser(MODEL, settings=value), SettingsError),
        (lambda value: FrameDenoiser(model=MODEL, settings=value), SettingsError),
        (Denoiser, ModelError),
        (lambda value: Denoiser(network=value), InputError),
        (lambda value: Denoiser(MODEL).feed([[1.0], [1.0, value]]), InputError),
        (lambda value: Denoiser(MODEL).feed(value), InputError),
        (lambda value: denoise(value, 16000, model=MODEL), InputError),
        (lambda value: FrameDenoiser(model=MODEL).process(value), InputError),
    ],
)
def test_a_wrong_argument_is_refused_in_a_sentence(
    use: Callable[[Any], Any], error: type[RtdenError]
) -> None:
    for value in NO_NUMBERS + ODD_NUMBERS:
        allowed = value is None or value is True  # as a default, and as one
        with contextlib.suppress(error) if allowed else pytest.raises(error, match=r".{20}"):
            use(value)


@pytest.mark.parametrize(
    "value", [*filter(lambda v: v is not True, NO_NUMBERS), 0, -1, float("nan")], ids=repr
)
def test_a_wrong_latency_is_refused_in_a_sentence(value: Any) -> None:
    with pytest.raises(SettingsError, match="more than 0 ms"):
        FrameDenoiser(model=MODEL, latency_ms=value)


@pytest.mark.parametrize(
    "rate_hz", [16000, 16000.0, np.int64(16000), np.float32(16000), np.array(16000)], ids=repr
)
def test_numbers_of_any_kind_are_taken(rate_hz: Any) -> None:
    frames = FrameDenoiser(rate_hz, np.int64(1), model=MODEL, latency_ms=np.float32(40.0))
    values = (frames.rate_hz, frames.channels, frames.latency_ms)
    assert [*map(type, values)] == [int, int, float]
    assert frames.process(bytes(320)) == bytes(320)


def twice(name: str, disturb: Callable[[Any], None] = lambda _: None) -> np.ndarray:
    """Return what a new stream makes of two blocks, disturbed between them."""
    stream, block = STREAMS[name](), SOUND if name != "StreamDenoiser" else SOUND[:, None]
    out = [fed(name, stream, block)]
    disturb(stream)
    out.append(fed(name, stream, block))
    return np.concatenate(out if name == "FrameDenoiser" else [*out, stream.flush()])


undisturbed = functools.cache(twice)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    "wrong",
    [
        *(PCM.astype(kind) for kind in ("?", "u1", "i1", "u2", "i8", "u4", "c8", "O", "M8[s]")),
        np.array(["sound"]),
        np.zeros(4, [("left", "f4"), ("right", "f4")]),
        np.zeros((4, 3, 1), np.float32),
        np.zeros((4, 0), np.float32),
        np.zeros((1, 4000), np.float32),
        np.float32(0.5),
        np.array(0.5),
        *(20000.0 * SOUND[:size] for size in (16, 400)),
        [0.5, "sound"],
        {0.5},
        None,
    ],
    ids=lambda wrong: f"{type(wrong).__name__} {getattr(wrong, 'dtype', '')}",
)
def test_a_wrong_block_is_refused_and_forgotten(name: str, wrong: Any) -> None:
    """What follows is as if it had not been there."""

    def disturb(stream: Any) -> None:
        with pytest.raises(InputError, match=r".{21}"):
            fed(name, stream, wrong if name != "StreamDenoiser" else _column(wrong))

    assert np.array_equal(twice(name, disturb), undisturbed(name))


def _column(samples: Any) -> Any:
    return samples[:, None] if isinstance(samples, np.ndarray) and samples.ndim == 1 else samples


@pytest.mark.parametrize("kind", ["f2", "f4", ">f4", "f8", ">f8", np.longdouble])
def test_floating_point_of_any_size_and_order_is_taken_and_comes_back(kind: Any) -> None:
    samples = SOUND.astype(kind)
    wanted = denoise(samples.astype(np.float32), 16000, model=MODEL)
    out = denoise(samples, 16000, model=MODEL)
    assert out.dtype == samples.dtype
    np.testing.assert_allclose(out.astype(np.float32), wanted, atol=1e-4)
    frame = FrameDenoiser(16000, model=MODEL).process(samples)
    assert (frame.dtype, frame.shape) == (samples.dtype, samples.shape)


@pytest.mark.parametrize(
    "view",
    [
        np.repeat(PCM, 2)[::2],
        PCM.astype(">i2"),
        np.asfortranarray(np.stack([PCM, PCM], 1))[:, 0],
        np.frombuffer(PCM.tobytes(), np.int16),  # read-only
        memoryview(PCM),
        memoryview(PCM.tobytes()),
        memoryview(PCM.tobytes()).cast("c"),
        memoryview(np.repeat(PCM.view(np.uint8), 2).tobytes())[::2],
    ],
    ids=lambda view: type(view).__name__,
)
def test_a_frame_may_lie_in_memory_as_it_likes(view: Any) -> None:
    out = FrameDenoiser(16000, model=MODEL).process(view)
    wanted = FrameDenoiser(16000, model=MODEL).process(PCM)
    assert type(out) is type(view)
    found = np.frombuffer(out.tobytes(), PCM.dtype) if isinstance(out, memoryview) else out
    assert np.array_equal(found, wanted)
    if isinstance(view, memoryview):
        assert (out.format, out.shape) == (view.format, view.shape)


def test_an_array_of_the_standard_library_is_samples() -> None:
    assert denoise(array.array("h", PCM), 16000, model=MODEL).dtype == np.int16


class Tensor:
    """As PyTorch's, which refuse to become arrays while they have gradients or are on a GPU."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Use tensor.detach().numpy() instead.")


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (PCM.tobytes(), r"not bytes; np\.frombuffer"),
        (bytearray(320), r"not bytearray; np\.frombuffer"),
        ("noisy.wav", "not str.*denoise_file"),
        (0.5, "an array, not float"),
        (Tensor(), r"cannot become one: Use tensor\.detach"),
        (SOUND[None], r"pass samples\.T if yours is \(channels, samples\)"),
        (PCM.astype(np.int64), "int64; convert"),
        ((SOUND, 16000), "pass the samples alone"),  # as soundfile.read returns them
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_people_know_from_other_libraries_is_answered_with_advice(
    wrong: Any, advice: str
) -> None:
    with pytest.raises(InputError, match=advice):
        denoise(wrong, 16000, model=MODEL)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_cannot_be_copied(name: str, copied: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="cannot be copied"):
        copied(STREAMS[name]())


def test_a_copy_of_a_model_loads_the_same_files() -> None:
    model = load_model(MODEL)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied is model  # in this process; another one loads them


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float32, fractions.Fraction, int])
def test_settings_become_plain_numbers(kind: Any) -> None:
    names = ["strength", "limit_db"]
    names += ["hops_per_step", "seed"] if isinstance(kind(1), numbers.Integral) else []
    settings = Settings(**{name: kind(1) for name in names})
    assert json.loads(json.dumps(settings.to_dict())) == settings.to_dict()
    assert Denoiser(MODEL, settings).feed(SOUND).size


@pytest.mark.parametrize("value", [*NO_NUMBERS, *ODD_NUMBERS, 10**6], ids=repr)
@pytest.mark.parametrize("name", ["frames", "iterations", "seed", "strength"])
def test_a_wrong_setting_is_refused_or_does_no_harm(name: str, value: Any) -> None:
    with contextlib.suppress(SettingsError):
        assert Denoiser(MODEL, Settings(**{name: value})).feed(SOUND).size


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_new_after_a_with_statement(name: str) -> None:
    block = SOUND[:, None] if name == "StreamDenoiser" else SOUND
    with STREAMS[name]() as stream:
        first = fed(name, stream, block)
    assert np.array_equal(fed(name, stream, block), first)


def test_settings_of_a_stream_are_its_own() -> None:
    chosen = Settings(strength=0.5)
    stream = Denoiser(MODEL, chosen)
    stream.strength = 0.25
    assert (chosen.strength, stream.strength) == (0.5, 0.25)


def test_the_package_knows_its_version() -> None:
    assert rtden.__version__.count(".") == 2


@pytest.mark.parametrize("wrong", [SOUND, 5, b"noisy.wav", io.BytesIO(), ["noisy.wav"]])
def test_a_file_is_a_path(wrong: Any) -> None:
    for places in ((wrong,), ("noisy.wav", wrong)):
        with pytest.raises(InputError, match="takes a path, not"):
            rtden.denoise_file(*places)


@pytest.mark.parametrize("name", ["", " ", "noisy\0.wav"])
def test_a_file_has_a_name(name: str) -> None:
    for places in ((name,), (DATA / "noisy.flac", name)):
        with pytest.raises(AudioFileError, match="not the name of a file"):
            rtden.denoise_file(*places)


@pytest.mark.parametrize("name", ["progress", "streams"])
def test_a_function_is_one(tmp_path: Path, name: str) -> None:
    wrong: Any = {name: 3}
    with pytest.raises(InputError, match=f"{name} is a function, not int"):
        rtden.denoise_file(DATA / "noisy.flac", tmp_path / "out.wav", **wrong)


@pytest.mark.parametrize("value", ["no", 2, None, [True], np.array([True, False])], ids=repr)
def test_a_switch_is_true_or_false(value: Any) -> None:
    for name in ("full_band", "low_delay"):
        with pytest.raises(SettingsError, match=f"{name} must be True or False, not "):
            StreamDenoiser(MODEL, rate_hz=16000, **{name: value})
    for name in ("full_band", "force"):
        with pytest.raises(SettingsError, match=f"{name} must be True or False, not "):
            rtden.denoise_file(DATA / "noisy.flac", **{name: value})


@pytest.mark.parametrize("track", [0, -1, 2, 1.5, "1", float("nan")])
def test_a_track_is_one_of_the_file(tmp_path: Path, track: Any) -> None:
    pytest.importorskip("av")
    with pytest.raises(AudioFileError, match="has no sound track"):
        rtden.denoise_file(DATA / "noisy.flac", tmp_path / "out.wav", track=track)


def test_errors_can_be_caught_by_the_package_alone() -> None:
    code = "import rtden; assert issubclass(rtden.errors.InputError, rtden.errors.RtdenError)"
    run_python(code)
