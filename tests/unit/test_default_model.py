"""Which model is used where none is named: one for live sound, one that looks ahead for files."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import DATA
from typer.testing import CliRunner

from rtden import Denoiser, FrameDenoiser, StreamDenoiser, denoise, denoise_file, open_live
from rtden import model as models
from rtden.app.main import app
from rtden.denoiser import default_model
from rtden.errors import ModelError
from rtden.files.batch import denoise_files
from rtden.files.pipe import LATENCY_MS
from rtden.model import find_model, load_model, load_spec, save_spec
from rtden.web import cleaning

IN, RATE_HZ = DATA / "noisy.flac", 22050
FITS_MS = 1000.0 * (5 * 512 + 512) / RATE_HZ
"""A step, four columns of lookahead and the whole overlap."""


@pytest.fixture
def ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model that the default one names for files, in a folder of shipped models."""
    folder = tmp_path / "models"
    folder.mkdir()
    spec = load_spec()
    for name, changes in (
        ("rtden", {"files_model": "rtden-files"}),
        ("rtden-files", {"lookahead": 4, "files_model": ""}),
    ):
        shutil.copy(find_model(), folder / f"{name}.tflite")
        changed = dataclasses.replace(spec, name=name, **changes)
        save_spec(changed, folder / f"{name}.tflite")
    monkeypatch.setattr(models, "models_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder / "rtden-files.tflite"


def test_it_follows_the_latency(ahead: Path) -> None:
    assert default_model().path == ahead
    assert default_model(FITS_MS + 0.01).path == ahead
    assert default_model(FITS_MS - 0.01).path == find_model("rtden")
    assert Denoiser(default_model()).latency.samples == 6 * 512


def test_without_a_companion_one_model_serves_all(
    ahead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.unlink()
    with pytest.raises(ModelError, match="no model 'rtden-files'"):
        default_model()
    default = ahead.with_name("rtden.tflite")
    save_spec(dataclasses.replace(load_spec(default), files_model=""), default)
    assert default_model() is load_model()


def test_files_and_arrays_get_it_and_a_named_model_overrides(ahead: Path, tmp_path: Path) -> None:
    noisy, _ = soundfile.read(IN, 3 * RATE_HZ, dtype="float32")
    outputs = {}
    for name in ("rtden", "rtden-files"):
        stream = StreamDenoiser(name, rate_hz=RATE_HZ)
        outputs[name] = np.concatenate([stream.feed(noisy[:, None]), stream.flush()])[:, 0]
    assert not np.array_equal(outputs["rtden"], outputs["rtden-files"])
    assert np.array_equal(denoise(noisy, RATE_HZ), outputs["rtden-files"])
    assert np.array_equal(denoise(noisy, RATE_HZ, model="rtden"), outputs["rtden"])
    soundfile.write("in.wav", noisy, RATE_HZ, "FLOAT")
    cleaned = cleaning._Cleaned(tmp_path, iter([0]), RATE_HZ, 1)
    page = np.concatenate([cleaned.feed(noisy[:, None]), cleaned.flush()])[:, 0]
    denoise_file("in.wav", "file.wav")
    denoise_file("in.wav", "named.wav", model="rtden")
    assert next(denoise_files([("in.wav", "many.wav")], ["."], jobs=1)).state == "denoised"
    run = CliRunner().invoke(app, ["file", "in.wav", "-o", "command.wav"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(app, ["file", "in.wav", "-o", "other.wav", "--model", "rtden"])
    assert run.exit_code == 0, run.output
    for path, name in (
        *((path, "rtden-files") for path in ("file.wav", "many.wav", "command.wav")),
        *((path, "rtden") for path in ("named.wav", "other.wav")),
    ):
        assert np.array_equal(soundfile.read(path, dtype="float32")[0], outputs[name]), path
    assert np.array_equal(page, outputs["rtden-files"])


def test_live_sound_gets_it_from_the_latency_at_which_it_fits(ahead: Path) -> None:
    assert FrameDenoiser(RATE_HZ).stream.denoisers[0].spec.name == "rtden"
    late = FrameDenoiser(RATE_HZ, latency_ms=FITS_MS + 0.01)
    assert late.stream.denoisers[0].spec.name == "rtden-files"
    assert late.latency_ms == pytest.approx(FITS_MS, abs=0.1)
    assert LATENCY_MS < FITS_MS
    for latency_ms, model, denoiser_ms in ((None, None, 30), (400, None, 302), (400, "rtden", 209)):
        engine = open_live(str(IN), "out.wav", latency_ms=latency_ms, model=model)
        engine.stop()
        assert engine.latency.denoiser_ms == pytest.approx(denoiser_ms, abs=1), latency_ms
        if latency_ms is not None:
            assert engine.latency.total_ms == pytest.approx(latency_ms, abs=2.0)


def test_the_list_says_which_serves_what(ahead: Path) -> None:
    run = CliRunner().invoke(app, ["models"])
    said = " ".join(run.output.split())
    assert "rtden (default)" in said
    assert "live sound The default" in said
    assert "files, live sound from 139 ms" in said
    save_spec(
        dataclasses.replace(load_spec("rtden"), files_model=""), ahead.with_name("rtden.tflite")
    )
    assert "live sound and files" in CliRunner().invoke(app, ["models"]).output
