"""Anything that may come from outside, drawn at random: sound, settings, sidecars, WAV headers."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from conftest import SMALL_MODELS
from properties import example, given, settings, st

from rtden import Denoiser, FrameDenoiser, Settings, StreamDenoiser, denoise
from rtden.errors import AudioFileError, InputError, ModelError, SettingsError
from rtden.files.listing import Raw
from rtden.files.pipe import FORMATS, denoise_pipe
from rtden.model import ModelSpec, load_spec
from rtden.settings import gain_floor

MODEL = SMALL_MODELS[0]
RATES_HZ = (8000, 11025, 16000, 22050, 32000, 44099, 44100, 48000, 192000)
ABSURD = (math.nan, math.inf, -math.inf, 1e30, -1e10, 1e-42, 0.0)
LOUDEST = 100.0
"""No output is louder, whatever comes in: what is beyond 60 dB above full scale is silence."""

numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3))
values = st.recursive(
    numbers,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
sizes = st.lists(st.integers(0, 3000), max_size=8)


@st.composite
def sounds(draw: st.DrawFn) -> np.ndarray:
    """Draw noise of any level with absurd samples in it, shape (samples,)."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    sound = 10.0 ** draw(st.floats(-9.0, 1.0)) * rng.uniform(-1.0, 1.0, draw(st.integers(0, 9000)))
    single: np.ndarray = sound.astype(np.float32)
    for place, value, length in draw(
        st.lists(st.tuples(st.floats(0, 1), st.sampled_from(ABSURD), st.integers(1, 2000)))
    ):
        at = int(place * len(single))
        single[at : at + length] = value
    return single


def parts(sound: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    """Return a sound in blocks of these lengths, some of them empty, and the rest."""
    return np.split(sound, np.minimum(np.cumsum(lengths, dtype=int), len(sound)))


def check(out: np.ndarray, samples: int) -> None:
    assert len(out) == samples
    assert np.isfinite(out).all()
    assert np.abs(out).max(initial=0.0) < LOUDEST


@settings(max_examples=15)
@given(sounds(), sizes, st.sampled_from([1, 2, 8]), st.sampled_from([None, 32, 149]))
def test_a_denoiser_returns_every_sample_whatever_it_is_fed(
    sound: np.ndarray, lengths: list[int], hops: int, overlap: int | None
) -> None:
    denoiser = Denoiser(MODEL, Settings(hops_per_step=hops, overlap_samples=overlap))
    out = [denoiser.feed(np.clip(np.nan_to_num(part), -1, 1)) for part in parts(sound, lengths)]
    check(np.concatenate([*out, denoiser.flush()]), len(sound))


@settings(max_examples=8)
@given(
    sounds(),
    sizes,
    st.sampled_from(RATES_HZ),
    st.integers(1, 3),
    st.sampled_from(["f4", "f8", "f2", ">f4"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 9]),
)
def test_a_stream_returns_every_sample_whatever_it_is_fed(
    sound: np.ndarray,
    lengths: list[int],
    rate_hz: int,
    channels: int,
    dtype: str,
    low_delay: bool,
    full_band: bool,
    batch_steps: int,
) -> None:
    options: dict[str, Any] = {"low_delay": low_delay, "full_band": full_band}
    stream = StreamDenoiser(
        MODEL, rate_hz=rate_hz, channels=channels, batch_steps=batch_steps, **options
    )
    with np.errstate(over="ignore"):
        columns = np.tile(sound[:, None], channels).astype(dtype)
    out = [stream.feed(part) for part in parts(columns, lengths)]
    whole = np.concatenate([*out, stream.flush()])
    check(whole, len(sound))
    assert whole.shape == columns.shape


@settings(max_examples=8)
@given(
    sounds(),
    sizes,
    st.sampled_from(RATES_HZ),
    st.integers(1, 2),
    st.sampled_from(["i2", "i4", "f4", "f8"]),
)
def test_frames_and_arrays_come_back_as_they_went(
    sound: np.ndarray, lengths: list[int], rate_hz: int, channels: int, dtype: str
) -> None:
    if dtype[0] == "i":
        largest = np.iinfo(dtype).max
        sound = np.clip(np.nan_to_num(sound), -1, 1).astype(np.float64) * largest
    columns = np.tile(sound[:, None], channels).astype(dtype)
    frames = FrameDenoiser(rate_hz, channels, model=MODEL)
    for frame in parts(columns, lengths):
        out = frames.process(frame)
        assert (out.shape, out.dtype) == (frame.shape, frame.dtype)
        assert np.isfinite(out).all()
    clean = denoise(columns, rate_hz, model=MODEL)
    assert (clean.shape, clean.dtype) == (columns.shape, columns.dtype)
    assert np.isfinite(clean).all()


@settings(max_examples=100)
@given(st.floats() | st.integers())
def test_a_rate_is_taken_or_refused_in_a_sentence(rate_hz: float) -> None:
    try:
        StreamDenoiser(MODEL, rate_hz=rate_hz)  # type: ignore[arg-type]
    except InputError:
        return
    assert rate_hz == int(rate_hz)
    assert 8000 <= rate_hz <= 192000


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Settings)]), values))
def test_settings_are_taken_or_refused_in_a_sentence(changes: dict[str, Any]) -> None:
    try:
        chosen = Settings(**changes)
    except SettingsError:
        return
    assert json.loads(json.dumps(chosen.to_dict(), allow_nan=False))["strength"] <= 1
    assert 0.0 <= gain_floor(chosen.limit_db) <= 1.0


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_sidecar_is_refused_in_a_sentence(data: st.DataObject) -> None:
    spec = load_spec(MODEL)
    content = spec.to_dict()
    for _ in range(data.draw(st.integers(1, 3))):
        section = data.draw(st.sampled_from(sorted(content)))
        if isinstance(content[section], dict) and content[section] and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(sorted(content[section])))
            content[section] = {**content[section], key: data.draw(values)}
        elif data.draw(st.booleans()):
            content[section] = data.draw(values)
        else:
            del content[section]
            break
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.tflite"
        path.write_bytes(MODEL.read_bytes())
        path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
        try:
            found = load_spec(path)
        except ModelError:
            return
    assert isinstance(found, ModelSpec)
    assert found.sha256 == spec.sha256


def piped(content: bytes, pcm: Raw | None) -> bytes:
    """Return what `rtden pipe` makes of bytes, whose reader comes after the writer."""
    source, feed = os.pipe()
    heard, sink = os.pipe()
    found: list[bytes] = []

    def write() -> None:
        with os.fdopen(feed, "wb") as file:
            file.write(content)

    def read() -> None:
        with os.fdopen(heard, "rb") as file:
            found.append(file.read())

    threads = [threading.Thread(target=target) for target in (write, read)]
    for thread in threads:
        thread.start()
    try:
        denoise_pipe(source, sink, pcm, model=MODEL)
    finally:
        while os.read(source, 1 << 16):
            pass
        os.close(source)
        os.close(sink)
        for thread in threads:
            thread.join()
    return found[0]


@settings(max_examples=8)
@given(
    st.binary(max_size=20_000),
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from(RATES_HZ),
    st.integers(1, 3),
)
@example(bytes(4), "s16le", 8000, 1)  # no more than is looked at for a header
def test_a_pipe_gives_a_whole_sample_for_each_whole_sample(
    content: bytes, name: str, rate_hz: int, channels: int
) -> None:
    pcm = Raw(rate_hz, channels, name)
    try:
        out = piped(content, pcm)
    except InputError:  # bytes of which most are huge as floating point
        assert name == "f32le"
        return
    assert len(out) == len(content) // pcm.frame_bytes * pcm.frame_bytes
    assert np.isfinite(np.frombuffer(out, FORMATS[name])).all()


chunks = st.lists(st.tuples(st.sampled_from([b"LIST", b"fmt ", b"fact"]), st.binary(max_size=40)))


@settings(max_examples=100)
@given(
    chunks,
    st.sampled_from([1, 3, 0xFFFE, 7]),
    st.integers(0, 65535) | st.integers(0, 3),
    st.integers(0, 2**32 - 1) | st.sampled_from([16000, 48000]),
    st.sampled_from([16, 32, 24, 0]),
    st.binary(max_size=300),
    st.integers(0, 60),
)
def test_a_wav_header_is_taken_or_refused_in_a_sentence(
    others: list[tuple[bytes, bytes]],
    tag: int,
    channels: int,
    rate_hz: int,
    bits: int,
    sound: bytes,
    cut: int,
) -> None:
    known = struct.pack("<HHIIHH", tag, channels, rate_hz, 0, 0, bits)
    pieces = [*others, (b"fmt ", known), (b"data", sound)]
    body = b"".join(
        name + struct.pack("<I", len(piece)) + piece + b"\0" * (len(piece) % 2)
        for name, piece in pieces
    )
    content = b"RIFF\xff\xff\xff\xffWAVE" + body
    try:
        out = piped(content[: len(content) - cut], None)
    except (AudioFileError, InputError):
        return
    assert out[:4] == b"RIFF"
