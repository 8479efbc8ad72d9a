"""The rules by which open_live assembles source, sink, settings and recording."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import DATA

from rtden import Settings, open_live
from rtden.app.live import _sum_up
from rtden.errors import AudioFileError, DeviceError, RtdenError, SettingsError
from rtden.live import LatencyParts
from rtden.live.plan import LIVE_LATENCY_MS, live_settings

IN = str(DATA / "noisy.flac")


def test_from_a_file_to_a_file_with_the_live_latency(tmp_path: Path) -> None:
    engine = open_live(IN, str(tmp_path / "out.wav"))
    try:
        assert engine.input_name == IN
        assert engine.output_name == str(tmp_path / "out.wav")
        assert engine.latency.denoiser_ms == pytest.approx(LIVE_LATENCY_MS, abs=0.1)
        assert engine.sink.rate_hz == engine.source.rate_hz
    finally:
        engine.stop()
    assert not list(tmp_path.iterdir())  # an engine that never ran leaves no file


def test_a_total_latency_chooses_settings_and_buffer(tmp_path: Path) -> None:
    engine = open_live(IN, str(tmp_path / "out.wav"), latency_ms=150.0, settings=Settings())
    try:
        assert engine.latency.total_ms == pytest.approx(150.0, abs=2.0)
    finally:
        engine.stop()
    with pytest.raises(SettingsError, match="give one of the two"):
        open_live(IN, "out.wav", latency_ms=150.0, settings=Settings(hops_per_step=4))


def test_after_drop_outs_the_advice_is_a_buffer_as_large_as_needed(tmp_path: Path) -> None:
    engine, said = open_live(IN, str(tmp_path / "out.wav")), list[str]()
    delay = engine.worker.delay
    while delay.buffer.seconds < 0.1:
        delay.buffer.drop_out()
        delay.dropouts += 1
    _sum_up(engine, None, None, said.append)
    engine.stop()
    needed = round(1000.0 * delay.buffer.seconds)
    assert f"is now {needed} ms. If that happens often, try --buffer-ms {needed} " in said[-1]


def test_explicit_windows_are_kept() -> None:
    for settings in (Settings(overlap_samples=64), Settings(hops_per_step=4)):
        assert live_settings(settings) is settings


@pytest.mark.parametrize(
    ("output", "record"),
    [("in.flac", None), ("kept/noisy.wav", "kept"), ("kept/cleaned.wav", "kept")],
)
def test_no_file_is_both_read_and_written_or_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, record: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.flac").write_bytes(b"precious")
    with pytest.raises(AudioFileError, match="are one file"):
        open_live("in.flac", output, record=record, force=True)
    assert (tmp_path / "in.flac").read_bytes() == b"precious"


def test_what_was_opened_is_closed_where_the_rest_fails(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(800, np.float32), 8000)
    (tmp_path / "out.wav").write_bytes(b"precious")
    with pytest.raises(AudioFileError, match="exists already"):
        open_live(str(tmp_path / "in.wav"), str(tmp_path / "out.wav"))
    with pytest.raises(SettingsError, match="buffer_ms"):
        open_live(str(tmp_path / "in.wav"), str(tmp_path / "new.wav"), buffer_ms=-1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "out.wav"]


@pytest.mark.parametrize("value", ["80", b"80", [80], {}, math.nan, -1, 1j], ids=repr)
@pytest.mark.parametrize(
    "name",
    [
        *("input", "output", "record", "settings", "model"),
        *("latency_ms", "buffer_ms", "first_buffer_ms"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_sentence(tmp_path: Path, name: str, value: Any) -> None:
    places: dict[str, Any] = {"input": IN, "output": str(tmp_path / "out.wav")}
    if name == "record" and isinstance(value, str | int):  # the name of a folder
        return
    with pytest.raises(RtdenError, match=r"\w+ \w+ \w+"):
        open_live(**(places | {name: value}))


@pytest.mark.parametrize("value", ["no", 2, 1.0, None, [True], np.array([True, False])], ids=repr)
@pytest.mark.parametrize("name", ["stereo", "full_band", "force", "realtime"])
def test_a_switch_is_true_or_false(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be True or False, not "):
        open_live(IN, tmp_path / "out.wav", **{name: value})
    numpys: Any = {name: np.False_}
    open_live(IN, tmp_path / "out.wav", **numpys).stop()


@pytest.mark.parametrize("value", [5, b"mic", ["mic"], True])
def test_the_name_of_a_virtual_microphone_is_text(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SettingsError, match="name must be text, not "):
        open_live(IN, tmp_path / "out.wav", name=value)


@pytest.mark.parametrize("name", ["out.m4a", "out.MP4", "out.raw", "out.gsm", "out.g722"])
def test_a_file_that_is_not_written_live_is_no_device(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioFileError, match=f"{name} cannot be written live"):
        open_live(IN, tmp_path / name)
    with pytest.raises(AudioFileError, match="there is no file"):
        open_live(tmp_path / name, tmp_path / "out.wav")


@pytest.mark.parametrize("name", ["", "  "])
def test_a_name_is_not_empty(name: str) -> None:
    for places in ((name, "out.wav"), (IN, name), (IN, "out.wav", name)):
        with pytest.raises(SettingsError, match="name is empty"):
            open_live(*places[:2], record=places[2] if len(places) > 2 else None)


def test_an_engine_starts_once(tmp_path: Path) -> None:
    with open_live(Path(IN), tmp_path / "out.wav") as engine:
        with pytest.raises(DeviceError, match="starts once"):
            engine.start()
        for wrong in (2.0, math.nan, "1", None):
            with pytest.raises(SettingsError, match="strength"):
                engine.strength = wrong  # type: ignore[assignment]
    with pytest.raises(DeviceError, match="starts once"):
        engine.start()


def test_status_and_latency_become_json(tmp_path: Path) -> None:
    engine = open_live(IN, str(tmp_path / "out.wav"))
    status = dataclasses.replace(engine.status(), flagged_blocks=2, dropouts=3)
    engine.stop()
    fields = json.loads(json.dumps(status.to_dict()))
    assert (fields["xruns"], fields["input_db"], fields["latency_ms"]) == (5, None, None)
    parts = LatencyParts(1.0, 2.0, 3.0, 4.0, math.nan).to_dict()
    assert (parts["source_ms"], parts["sink_ms"], parts["total_ms"]) == (1.0, None, None)
