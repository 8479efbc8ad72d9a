from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import ENV, RTDEN, assert_one_sentence, ended, names, started
from command import invoke as run
from command import rtden as real
from conftest import DATA
from rich.table import Table
from waiting import LIMIT_SECONDS

from rtden.app import options
from rtden.app.options import PlainConsole
from rtden.model import find_model

RATE_HZ = 22050


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one recording."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("noisy.flac", soundfile.read(DATA / "noisy.flac")[0][:88200], RATE_HZ)
    return tmp_path


def short(path: Path | str, seconds: float = 1.0, rate_hz: int = RATE_HZ, **kwargs: str) -> Path:
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate_hz))
    soundfile.write(path, samples, rate_hz, **kwargs)
    return Path(path)


# Mistakes


LIVE = "live --in noisy.flac --out out.wav"
LONG = "x" * 300


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("file missing.wav", ["missing.wav", "no file"]),
        (f"file {LONG}.wav", ["xxx"]),
        (f"file noisy.flac -o {LONG}.wav", ["xxx"]),
        (f"file noisy.flac -m {LONG}", ["xxx"]),
        ("file 'empty folder'", ["empty folder", "no sound files"]),
        ("file notes.txt", ["notes.txt", "not sound"]),
        ("file notes.txt/noisy.flac", ["notes.txt/noisy.flac"]),
        ("file noisy.flac -o notes.txt/out.flac", ["notes.txt"]),
        ("file noisy.flac --strength 1.5", ["strength", "1.5"]),
        ("file noisy.flac --strength nan", ["strength", "nan"]),
        ("file noisy.flac --limit-db -3", ["limit_db", "-3"]),
        ("file noisy.flac --model nosuchmodel", ["nosuchmodel", "seed"]),
        ("file noisy.flac --model notes.txt", ["notes.txt", "sidecar"]),
        ("file noisy.flac -o taken.flac", ["taken.flac", "--force"]),
        ("file noisy.flac -o noisy.flac --force", ["noisy.flac", "original"]),
        ("file noisy.flac -o 'empty folder/out.wve'", ["out.wve", "format"]),
        ("file noisy.flac missing.wav -o notes.txt", ["several files", "notes.txt"]),
        ("file noisy.flac noisy.flac", ["two files"]),
        ("file noisy.flac --reference missing.wav", ["missing.wav", "no file"]),
        ("file noisy.flac taken.flac -o new --reference noisy.flac", ["exactly one file"]),
        ("file noisy.flac -o - --reference noisy.flac", ["exactly one file"]),
        ("file noisy.flac --plot taken.flac", ["taken.flac", "exists already"]),
        ("file noisy.flac --jobs 0", ["jobs", "0"]),
        ("file noisy.flac --channels 2", ["--channels", "--rate"]),
        ("file noisy.flac taken.flac --dask here:1 --jobs 2", ["--jobs", "--dask"]),
        ("file noisy.flac --dask here:1", ["--dask", "folder"]),
        ("file noisy.flac - -o new", ["standard input"]),
        ("file noisy.flac taken.flac -m nosuchmodel -o new", ["nosuchmodel", "seed"]),
        ("file low.wav", ["4000 Hz", "8000"]),
        ("live --in missing.wav --out out.wav", ["missing.wav", "no file"]),
        ("live --in noisy.flac --out taken.flac", ["taken.flac", "exists already"]),
        (f"{LIVE} --strength -1", ["strength", "-1"]),
        (f"{LIVE} --hops-per-step 5", ["hops_per_step", "5"]),
        (f"{LIVE} --duration 0", ["--duration must be more than 0"]),
        (f"{LIVE} --duration nan", ["duration", "nan"]),
        (f"{LIVE} --buffer-ms -1", ["buffer_ms must lie between", "-1"]),
        (f"{LIVE} --model nosuchmodel", ["there is no model 'nosuchmodel'", "seed"]),
        (f"{LIVE} --record notes.txt", ["notes.txt"]),
        ("bench --seconds 1", ["seconds", "5"]),
        ("bench --seconds nan", ["seconds", "nan"]),
        ("bench --model nosuchmodel", ["nosuchmodel", "seed"]),
        ("bench --hops-per-step 0", ["hops_per_step", "0"]),
        ("bench --jobs 2", ["--jobs", "--streams"]),
        ("bench --streams 2 --jobs 0", ["2 streams", "0 processes"]),
        ("bench --streams 2 --jobs 3", ["2 streams", "3 processes"]),
        ("bench --streams -1", ["-1 streams"]),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_mistake_is_told_in_one_sentence_and_nothing_is_written(
    folder: Path, line: str, words: list[str]
) -> None:
    Path("empty folder").mkdir()
    Path("notes.txt").write_text("no audio", encoding="utf-8")
    Path("taken.flac").write_bytes(b"something dear")
    short("low.wav", rate_hz=4000)
    before = {name: Path(name).read_bytes() for name in names(folder)}
    result = run(*shlex.split(line))
    assert isinstance(result.exception, SystemExit), result.exception
    assert_one_sentence(result.exit_code, result.stdout, result.stderr)
    for word in words:
        assert word in result.stderr
    assert {name: Path(name).read_bytes() for name in names(folder)} == before


@pytest.mark.parametrize("damage", ["no sidecar", "no model"])
def test_a_damaged_model_is_told_in_one_sentence_and_nothing_is_written(
    folder: Path, damage: str
) -> None:
    model = Path("copy.tflite")
    model.write_bytes(b"no network" * 100)
    if damage == "no model":
        content = json.loads(find_model("seed").with_suffix(".json").read_text(encoding="utf-8"))
        content["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
        Path("copy.json").write_text(json.dumps(content), encoding="utf-8")
    before = names(folder)
    said = {"no sidecar": "has no sidecar copy.json", "no model": "cannot load the model"}[damage]
    for arguments in (["file", "noisy.flac"], ["live", "--in", "noisy.flac", "--out", "out.wav"]):
        result = run(*arguments, "--model", str(model))
        assert_one_sentence(result.exit_code, result.stdout, result.stderr)
        assert said in result.stderr
        assert names(folder) == before


def test_a_result_named_as_with_cp_is_answered_with_the_option(folder: Path) -> None:
    result = run("file", "noisy.flac", "clean.flac")
    assert result.exit_code == 2
    assert "named with -o: -o clean.flac" in result.stderr
    assert "-o" not in run("file", "noisy.flac", "clean.flac", "-o", "folder", "--jobs", 1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["file", "missing.wav"],
        ["file", "noisy.flac", "--strength", "7"],
        ["file", "noisy.flac", "-o", "notes.txt/a.flac"],
        ["live", "--in", "missing.wav"],
    ],
)
def test_a_mistake_is_told_in_one_sentence_by_the_real_program(
    folder: Path, arguments: list[str]
) -> None:
    Path("notes.txt").touch()
    before = names(folder)
    result = real(*arguments)
    assert_one_sentence(result.returncode, result.stdout, result.stderr)
    assert names(folder) == before


def test_words_that_are_no_number_or_no_command_are_told_with_the_usage() -> None:
    for arguments in (
        ["live", "--hops-per-step", "two"],
        ["nosuchcommand"],
        ["file"],
        ["file", "a.wav", "--nosuchoption"],
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage: " in result.stderr
        assert "Error: " in result.stderr


# Recordings


def test_a_recording_is_denoised_beside_itself_and_measured_against_the_clean_one(
    folder: Path,
) -> None:
    shutil.copy(DATA / "noisy.flac", "noisy.flac")
    original = Path("noisy.flac").read_bytes()
    result = run("file", "noisy.flac", "--reference", str(DATA / "clean.flac"))
    assert result.exit_code == 0
    assert re.fullmatch(
        r"noisy\.flac -> noisy\.denoised\.flac: background \d+ dB quieter, 12\.\d s in \d+\.\d s\n",
        result.stderr,
    ), result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SI-SDR", "PESQ-WB", "ESTOI"]
    ((before_text, after_text),) = re.findall(
        r"^SI-SDR (\S+\.\d\d) dB -> (\S+\.\d\d) dB$", lines[0]
    )
    before_db, after_db = float(before_text), float(after_text)
    assert before_db == pytest.approx(5.0, abs=0.5)  # what the bundled recording was made with
    assert after_db != before_db
    for line, top in zip(lines[1:], (4.65, 1.0), strict=True):
        before, after = map(float, re.findall(r"[\w-]+ (\d\.\d{3}) -> (\d\.\d{3})$", line)[0])
        assert 0.0 < before < top
        assert 0.0 < after < top
    assert names(folder) == ["noisy.denoised.flac", "noisy.flac"]
    assert Path("noisy.flac").read_bytes() == original
    assert soundfile.info("noisy.denoised.flac").frames == soundfile.info("noisy.flac").frames


def test_the_strength_zero_gives_the_recording_back(folder: Path) -> None:
    result = run("file", "noisy.flac", "--strength", "0", "--reference", "noisy.flac")
    assert result.exit_code == 0, result.stderr
    both = (soundfile.read(f"noisy{part}.flac", dtype="int16")[0] for part in (".denoised", ""))
    np.testing.assert_array_equal(*both)
    assert "background hardly changed" in result.stderr
    before_db, after_db = re.findall(r"SI-SDR (\S+) dB -> (\S+) dB", result.stdout)[0]
    assert float(before_db) > 200.0  # against itself
    assert after_db == before_db


def test_where_no_noise_is_measured_the_reason_is_said(folder: Path) -> None:
    for name, seconds in (("short.wav", 0.05), ("silent.wav", 5.0)):
        soundfile.write(name, np.zeros(round(seconds * RATE_HZ)), RATE_HZ)
        assert f"too {name[:-4]} to measure" in run("file", name).stderr


def test_options_reach_the_denoiser(folder: Path) -> None:
    outputs = {}
    options = {"plain": "", "half": "--strength 0.5", "limited": "--limit-db 6"}
    for name, line in {**options, "seed": "--model seed"}.items():
        assert run("file", "noisy.flac", "-o", f"{name}.flac", *line.split()).exit_code == 0
        outputs[name] = soundfile.read(f"{name}.flac")[0]
    noisy = soundfile.read("noisy.flac")[0]
    np.testing.assert_allclose(outputs["half"], (outputs["plain"] + noisy) / 2, atol=2**-14)
    for name, other in (("limited", "plain"), ("seed", "plain")):
        assert np.abs(outputs[name] - outputs[other]).max() > 1e-3


def test_a_measured_recording_too_short_for_the_metrics_is_denoised_all_the_same(
    folder: Path,
) -> None:
    short("brief.wav", 0.1)
    result = real("file", "brief.wav", "--reference", "brief.wav")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1:] == ["PESQ-WB nan -> nan", "ESTOI nan -> nan"]
    assert result.stderr.count("\n") == 1, result.stderr
    assert soundfile.info("brief.denoised.wav").frames == 2205


def test_a_picture_is_drawn(folder: Path) -> None:
    result = run("file", "noisy.flac", "--plot", "mels.png")
    assert result.exit_code == 0
    assert "picture: mels.png" in result.stderr
    assert Path("mels.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_a_folder_are_drawn_once_each_though_a_file_fails(folder: Path) -> None:
    Path("in/deep").mkdir(parents=True)
    short("in/a.wav")
    short("in/deep/a.wav")
    Path("in/bad.wav").write_bytes(b"no audio at all")
    command = ("file", "in", "-o", "out", "--plot", "pictures", "--jobs", "1")
    first = run(*command)
    assert (first.exit_code, first.stderr.count("picture: ")) == (2, 2)
    assert names(folder / "pictures") == ["a.wav.png", "deep/a.wav.png"]
    Path("pictures/a.wav.png").unlink()
    second = run(*command)
    assert (second.exit_code, second.stderr.count("picture: ")) == (2, 1)
    assert "2 skipped" in second.stderr
    assert names(folder / "pictures") == ["a.wav.png", "deep/a.wav.png"]


def test_of_several_recordings_the_good_ones_are_written_and_the_bad_one_told(folder: Path) -> None:
    short("good.wav")
    Path("bad.wav").write_bytes(b"no audio at all")
    result = run("file", "noisy.flac", "bad.wav", "good.wav", "-o", "out")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = sorted(result.stderr.splitlines())
    assert len(lines) == 4
    assert lines[0].startswith("good.wav -> out/good.wav: ")
    assert lines[1].startswith("noisy.flac -> out/noisy.flac: ")
    assert lines[2].startswith("rtden: 1 of 3 files failed")
    assert lines[3].startswith("rtden: bad.wav is not sound")
    assert names(folder / "out") == ["good.wav", "noisy.flac", "rtden-manifest.jsonl"]
    assert soundfile.info("out/good.wav").frames == RATE_HZ


def test_a_folder_of_one_recording_is_measured_and_one_of_a_broken_one_is_told(
    folder: Path,
) -> None:
    Path("in").mkdir()
    shutil.copy("noisy.flac", "in/one.flac")
    result = run("file", "in", "--reference", str(DATA / "clean.flac"), "--plot", "one.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("SI-SDR ")
    assert Path("one.png").exists()
    Path("in/one.flac").write_bytes(b"no audio at all")
    options = ("-o", "out", "--reference", DATA / "clean.flac", "--jobs", 1)
    result = run("file", "in", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["rtden:", "1", "rtden:"]
    assert "1 left out: results of rtden." in result.stderr


def test_a_folder_is_denoised_with_its_subfolders_and_again_only_by_force(folder: Path) -> None:
    Path("in/deep").mkdir(parents=True)
    short("in/a.wav")
    short("in/deep/b.flac")
    assert run("file", "in", "--jobs", 1).exit_code == 0
    written = ["a.denoised.wav", "a.wav", "deep/b.denoised.flac", "deep/b.flac"]
    written.append("rtden-manifest.jsonl")
    assert names(folder / "in") == written
    Path("in/a.denoised.wav").write_bytes(b"something dear")
    again = run("file", "in")
    assert again.exit_code == 2
    assert again.stderr.count("exists already") == 1
    assert "1 skipped" in again.stderr
    assert Path("in/a.denoised.wav").read_bytes() == b"something dear"
    assert run("file", "in", "--force", "--jobs", 1).exit_code == 0
    assert names(folder / "in") == written
    assert soundfile.info("in/a.denoised.wav").frames == RATE_HZ


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_pipe_gives_what_a_file_gives(folder: Path, suffix: str) -> None:
    recording = short(f"a.{suffix}", 1.0, 44100)
    assert run("file", str(recording)).exit_code == 0
    piped = real("file", "-", input=recording.read_bytes(), text=False)
    assert piped.returncode == 0, piped.stderr
    expected, rate_hz = soundfile.read(f"a.denoised.{suffix}")
    samples, piped_hz = soundfile.read(io.BytesIO(piped.stdout))
    assert piped_hz == rate_hz == 44100
    np.testing.assert_array_equal(samples, expected)
    assert piped.stderr.decode().startswith("standard input -> standard output: ")
    assert piped.stderr.count(b"\n") == 1
    to_pipe = real("file", str(recording), "-o", "-", text=False, check=True)
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(to_pipe.stdout))[0], expected)
    content = recording.read_bytes()
    from_pipe = real("file", "-", "-o", f"b.{suffix}", input=content, text=False, check=True)
    assert from_pipe.stdout == b""
    np.testing.assert_array_equal(soundfile.read(f"b.{suffix}")[0], expected)
    assert names(folder) == [f"a.denoised.{suffix}", f"a.{suffix}", f"b.{suffix}", "noisy.flac"]


@pytest.mark.parametrize("content", [b"", b"not audio" * 1000])
def test_standard_input_that_is_no_audio_is_told_in_one_sentence(
    folder: Path, content: bytes
) -> None:
    piped = real("file", "-", input=content, text=False)
    assert_one_sentence(piped.returncode, piped.stdout.decode(), piped.stderr.decode())
    assert b"standard input" in piped.stderr
    assert b"/tmp" not in piped.stderr  # nobody knows a file of that name


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_that_never_ends_is_told_in_one_sentence(folder: Path, device: str) -> None:
    with open(device, "rb") as endless:
        piped = real("file", "-", "-o", "out.wav", stdin=endless)
    for result in (piped, real("file", device, "-o", "out.wav")):
        assert_one_sentence(result.returncode, result.stdout, result.stderr)
        assert "never end" in result.stderr
    assert names(folder) == ["noisy.flac"]


def test_a_file_in_a_folder_of_devices_is_a_file(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        source = short(Path(shared, "a.wav"))
        assert run("file", source, shared).exit_code == 2  # its result has one place
        assert run("file", source).exit_code == 0
        assert names(Path(shared)) == ["a.denoised.wav", "a.wav"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["models"],
        ["file", "noisy.flac", "-o", "-"],
        ["bench", "--seconds", "5", "--hops-per-step", "4", "-m", "seed", "--json"],
        ["live", "--in", "short.wav", "--out", "out.wav"],
    ],
)
def test_a_reader_that_goes_away_early_causes_no_traceback(
    folder: Path, arguments: list[str]
) -> None:
    short("short.wav", 0.5)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = real(*arguments, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert result.returncode in (1, 2)
    for word in ("Traceback", "BrokenPipe", "Exception"):
        assert word not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["models"], ["--version"], ["--help"], ["file", "--help"], ["file", "noisy.flac", "-o", "-"]],
)
def test_a_full_standard_output_is_told_in_one_sentence(folder: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        result = real(*arguments, stdout=full, stderr=subprocess.PIPE)
    assert_one_sentence(result.returncode, "", result.stderr)


def test_names_are_printed_as_they_are(folder: Path) -> None:
    name = "[bold]Übung 1[red]:mute:.wav"
    short(name)
    result = run("file", name)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{name} -> [bold]Übung 1[red]:mute:.denoised.wav: ")
    missing = run("file", "[bold]none[red].wav")
    assert "[bold]none[red].wav" in missing.stderr


@pytest.mark.parametrize("name", ["a\nb\x1b[31m\u202e\x9b.wav", "a[i]b.wav", "a[].wav"])
def test_a_name_neither_moves_the_cursor_nor_colours_the_terminal(folder: Path, name: str) -> None:
    short(name)
    shown = name.encode("unicode_escape").decode()
    said = run("file", name).stderr
    assert said.startswith(f"{shown} -> {shown.removesuffix('.wav')}.denoised.wav: ")
    assert said.count("\n") == 1
    assert_one_sentence(2, "", run("file", f"no\n{name}").stderr)
    assert f"rtden file {shlex.quote(shown)}" in run(name).stderr
    screen, text = PlainConsole(file=io.StringIO(), force_terminal=True), Table(name)
    screen.print(text)
    assert shown in screen.file.getvalue()  # type: ignore[attr-defined]
    messages, options.messages = options.messages, screen
    try:
        with options.progress(name):
            pass
    finally:
        options.messages = messages
    assert screen.file.getvalue().count(shown) > 1  # type: ignore[attr-defined]


def test_a_name_that_is_no_utf_8_is_denoised_too(folder: Path) -> None:
    name = b"\xff.wav"
    short("plain.wav").rename(os.fsdecode(name))
    result = real("file", name, text=False)
    assert result.returncode == 0, result.stderr
    assert soundfile.info(b"\xff.denoised.wav").frames == RATE_HZ


# The other commands


def test_the_shipped_models_are_listed_with_the_default_first() -> None:
    result = run("models")
    assert result.exit_code == 0
    header, first = result.stdout.splitlines()[:2]
    assert header.split()[:2] == ["Name", "Size"]
    assert re.match(r"\s*rtden \(default\)\s+\d+ KiB\s+\S", first)


def test_the_version_is_that_of_the_package() -> None:
    for result in (run("--version"), real("--version")):
        assert result.stdout == f"rtden {version('rtden')}\n"
        assert result.stderr == ""
    assert real("--version").returncode == 0


def test_the_installed_program_is_this_one() -> None:
    program = Path(sys.executable).with_name("rtden")
    result = ended([program, "--version"], check=True)
    assert result.stdout == f"rtden {version('rtden')}\n"


def test_help_names_every_command_and_option() -> None:
    text = run("--help").stdout
    for command in ("file", "live", "devices", "models", "bench"):
        assert command in text
    text = run("file", "-h").stdout
    for option in ("output", "model", "strength", "limit-db", "plot", "reference", "jobs", "dask"):
        assert f"--{option}" in text


# Live, between recordings


@pytest.mark.real_time
def test_live_starts_from_saved_choices_and_options_win(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("platformdirs")
    monkeypatch.setitem(ENV, "XDG_CONFIG_HOME", str(folder / "config"))
    saved = folder / "config" / "rtden" / "live.json"
    saved.parent.mkdir(parents=True)
    choices = {"input": "noisy.flac", "output": "saved.wav", "model": "seed", "strength": 0.0}
    saved.write_text(json.dumps(choices), encoding="utf-8")
    for given, written in (((), "saved.wav"), (("--out", "given.wav"), "given.wav")):
        result = real("live", "--saved", "--duration", "2", *given)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("from noisy.flac ")
        assert f"cleaned sound: {written}" in result.stdout
        out, noisy = soundfile.read(written)[0], soundfile.read("noisy.flac")[0]
        piece = out[RATE_HZ : RATE_HZ + 4096]  # strength 0: the sound as it is, later
        likeness = np.correlate(noisy[: len(out)], piece, "valid").max() / np.dot(piece, piece)
        assert likeness == pytest.approx(1.0, abs=0.01)
    saved.write_text("{", encoding="utf-8")
    refused = real("live", "--saved")
    assert_one_sentence(refused.returncode, refused.stdout, refused.stderr)
    assert "saved choices" in refused.stderr


@pytest.mark.real_time
def test_live_from_a_recording_to_a_recording_ends_with_a_summary_and_a_file_of_at_least_its_length(
    folder: Path,
) -> None:
    speech = soundfile.read("noisy.flac")[0][: 2 * RATE_HZ]  # of noise nothing is to be left
    soundfile.write("in.wav", speech, RATE_HZ)
    result = real("live", "--in", "in.wav", "--out", "out.wav", "--record", "kept")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == f"from in.wav ({RATE_HZ} Hz, 1 ch) to out.wav ({RATE_HZ} Hz, 1 ch)"
    parts = [float(number) for number in re.findall(r"\d+", lines[1])]
    assert lines[1].startswith("total latency ")
    assert parts[0] == pytest.approx(sum(parts[1:]), abs=3)
    assert parts[0] >= 46  # the denoiser's frame alone
    summary = next(line for line in lines if re.match(r"\d+\.\d s: pauses", line))
    ((seconds, latency_ms, xruns),) = re.findall(
        r"^(\d+\.\d) s: .*, latency (\d+) ms, load .*, (\d+) xruns?$", summary
    )
    assert float(seconds) >= 1.9
    assert float(latency_ms) == parts[0] or int(xruns), "only a drop-out makes the delay longer"
    assert "cleaned sound: out.wav" in lines
    kept = ["kept/cleaned.wav", "kept/noisy.wav"]
    assert names(folder) == ["in.wav", *kept, "noisy.flac", "out.wav"]
    out = soundfile.info("out.wav")
    assert (out.samplerate, out.channels) == (RATE_HZ, 1)
    assert out.frames >= 2 * RATE_HZ
    assert np.abs(soundfile.read("out.wav")[0]).max() > 0.1
    kept_noisy, given = (soundfile.read(name)[0] for name in ("kept/noisy.wav", "in.wav"))
    np.testing.assert_allclose(kept_noisy, given, atol=2**-14)


def test_letters_that_the_encoding_of_standard_output_lacks_are_escaped(folder: Path) -> None:
    Path("noisy.flac").rename("Käse.flac")
    options = ["--in", "Käse.flac", "--out", "out.wav", "--duration", "0.4"]
    result = real("live", *options, env={**ENV, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("from K\\xe4se.flac ")


def test_live_stops_after_the_given_duration_and_json_has_its_status(folder: Path) -> None:
    options = ["--duration", "1", "--latency-ms", "10", "--json"]
    result = real("live", "--in", "noisy.flac", "--out", "out.wav", *options)
    assert result.returncode == 0, result.stderr
    assert "these devices cannot do 10 ms" in result.stderr
    assert 0.9 < json.loads(result.stdout.splitlines()[-1])["seconds"] < 6
    assert 0.8 * RATE_HZ <= soundfile.info("out.wav").frames < 6 * RATE_HZ


def interrupted_while_it_loads(module: str, *arguments: str) -> Any:
    """Return a command that was interrupted there; an extension reports that as here."""
    code = f"""
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "{module}":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt as error:
                raise ImportError("initialization failed") from error

sys.meta_path.insert(0, Interrupting())
sys.argv = ["rtden", *{arguments}]
runpy.run_module("rtden", run_name="__main__")
"""
    return ended([sys.executable, "-c", code])


def test_an_interrupt_while_the_command_loads_ends_it_without_a_word() -> None:
    ended_by = interrupted_while_it_loads("typer", "models")
    assert (ended_by.returncode, ended_by.stderr) == (-signal.SIGINT, "")


def test_an_interrupt_while_a_library_loads_is_one_though_the_library_says_otherwise() -> None:
    ended_by = interrupted_while_it_loads("rtden.model", "models")
    assert ended_by.returncode == options.INTERRUPTED
    assert ended_by.stderr == "rtden: stopped; unfinished results were not written.\n"


def test_live_ends_on_ctrl_c_with_its_summary_and_keeps_what_was_heard(folder: Path) -> None:
    with started([*RTDEN, *LIVE.split()]) as process:
        while not (line := process.stdout.readline()).startswith("in "):
            assert line, "it ended before its first status line"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, err
    assert any(re.search(r"\d xruns?$", line) for line in out.splitlines()[-3:])
    assert err == ""
    assert soundfile.info("out.wav").frames >= 0.5 * RATE_HZ
    assert names(folder) == ["noisy.flac", "out.wav"]
