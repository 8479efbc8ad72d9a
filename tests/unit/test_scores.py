from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import json
import math
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from command import assert_one_sentence, invoke
from conftest import DATA, SMALL_MODEL
from rich.console import Console
from streams import as_recording

from rtden import StreamDenoiser
from rtden.denoiser import settings_for_latency
from rtden.errors import AudioFileError, InputError, RtdenError
from rtden.extras import install_command
from rtden.files.manifest import sha256_of
from rtden.measure import scores as scoring
from rtden.measure.evaluation import Evaluation, interval, mean
from rtden.measure.metrics import distill_mos, dnsmos_p808, estoi, pesq_wb, si_sdr_db
from rtden.measure.pairs import find_pairs, noise_of, rounded_snr_db
from rtden.measure.plots import check_picture, plot_scores
from rtden.measure.scores import StreamProcessor, evaluate, missing_packages, score_pairs
from rtden.measure.tables import tables, to_json
from rtden.model import find_model

for package in ("faster_whisper", "matplotlib", "onnxruntime", "pesq", "pystoi", "speechmos"):
    # Each metric names what it lacks; these tests are of all. Other processes load none of them.
    if not importlib.util.find_spec(package):
        pytest.skip(f"no {package}", allow_module_level=True)

RATE_HZ = 16000
JUDGE = ("DistillMOS",) if importlib.util.find_spec("distillmos") else ()
METRICS = ("PESQ-WB", "ESTOI", "SI-SDR (dB)", "SIG", "BAK", "OVRL", "P.808", *JUDGE)


@functools.lru_cache(maxsize=1)
def bundled() -> tuple[np.ndarray, np.ndarray]:
    """The bundled recordings at 16 kHz, from where speech is."""
    clean, noisy = (read(DATA / f"{name}.flac")[2 * 22050 :] for name in ("clean", "noisy"))
    return soxr.resample(clean, 22050, RATE_HZ), soxr.resample(noisy, 22050, RATE_HZ)


def write_pair(
    folder: Path,
    name: str,
    *,
    seconds: float = 2.0,
    level: float = 1.0,
    start: float = 0.0,
    rate_hz: int = RATE_HZ,
) -> None:
    """Write a pair whose noise is `level` times that of the bundled one."""
    clean, noisy = (
        signal[round(start * RATE_HZ) :][: round(seconds * RATE_HZ)] for signal in bundled()
    )
    for side, samples in (("clean", clean), ("noisy", clean + level * (noisy - clean))):
        (folder / side).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / side / name, samples, rate_hz)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs of two noises at two SNRs."""
    folder = tmp_path / "pairs"
    write_pair(folder, "000_fan_+5dB.flac")
    write_pair(folder, "001_busy_street_+15dB.flac", level=0.3)
    write_pair(folder, "002_fan_+15dB.flac", level=0.5, start=3.0)
    return folder


@pytest.fixture
def only_si_sdr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the metrics that take long."""
    monkeypatch.setattr(scoring, "METERS", scoring.METERS[2:3])


@pytest.fixture
def no_dnsmos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "METERS", scoring.METERS[:3])


def read(path: Path) -> np.ndarray:
    samples: np.ndarray = soundfile.read(path, dtype="float32")[0]
    return samples


def halved(noisy: np.ndarray, rate_hz: int) -> np.ndarray:
    return (0.5 * noisy).astype(np.float32)


def cut(noisy: np.ndarray, rate_hz: int) -> np.ndarray:
    return noisy[:-1]


def fatal(noisy: np.ndarray, rate_hz: int) -> np.ndarray:
    os._exit(1)


def made_up(scores: list[list[list[float]]], **changes: Any) -> Evaluation:
    """An evaluation of two systems with the metrics PESQ-WB and SI-SDR, shape (files, 2, 2)."""
    files = len(scores)
    made = Evaluation(
        folder="dev",
        files=tuple(f"{number}.wav" for number in range(files)),
        systems=("noisy", "net"),
        metrics=("PESQ-WB", "SI-SDR (dB)"),
        scores=np.array(scores),
        snr_db=np.array([5.0 * (number % 2) for number in range(files)]),
        noises=("fan",) * files,
        details={},
    )
    return dataclasses.replace(made, **changes)


# Pairs


def test_pairs_are_found_by_name_in_order_and_what_is_no_recording_is_passed_over(
    pairs: Path,
) -> None:
    for name in ("noisy/notes.txt", "clean/.hidden.wav"):
        (pairs / name).touch()
    (pairs / "noisy/folder.wav").mkdir()
    found = find_pairs(pairs)
    stems = ("000_fan_+5dB", "001_busy_street_+15dB", "002_fan_+15dB")
    sides = (pairs / "clean", pairs / "noisy")
    assert found == [tuple(side / f"{stem}.flac" for side in sides) for stem in stems]


def test_a_folder_without_pairs_is_told(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="there is no folder"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(AudioFileError, match="has no folder clean/"):
        find_pairs(tmp_path)
    (tmp_path / "clean").mkdir()
    with pytest.raises(AudioFileError, match="has no folder noisy/"):
        find_pairs(tmp_path)
    (tmp_path / "noisy").mkdir()
    with pytest.raises(AudioFileError, match="holds no pairs"):
        find_pairs(tmp_path)


def test_names_that_do_not_match_are_told(pairs: Path) -> None:
    (pairs / "noisy" / "000_fan_+5dB.flac").rename(pairs / "noisy" / "other.flac")
    with pytest.raises(
        AudioFileError, match=r"clean/000_fan_\+5dB\.flac and 1 more of .* stands alone"
    ):
        find_pairs(pairs)


@pytest.mark.parametrize(
    ("stem", "noise"),
    [
        ("000_babble_+0dB", "babble"),
        ("007_busy-street_+15dB", "busy-street"),
        ("7_busy_street_-2.5dB", "busy_street"),
        ("x_fan_5dB", "fan"),
        ("fan_5dB", "all"),
        ("p232_001", "all"),
        ("000__5dB", "all"),
        ("", "all"),
    ],
)
def test_the_noise_is_read_from_the_name(stem: str, noise: str) -> None:
    assert noise_of(stem) == noise


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 5.0, 20.0])
def test_the_snr_is_that_of_the_active_speech(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    seconds = np.arange(4 * RATE_HZ) / RATE_HZ
    speech = np.where(seconds % 2.0 < 1.0, np.sin(2 * np.pi * 200 * seconds), 1e-4)
    speech = speech.astype(np.float32)
    level = np.float32(math.sqrt(0.5) * 10 ** (-(snr_db + 1.0) / 20))
    noise = level * rng.standard_normal(len(speech)).astype(np.float32)
    assert rounded_snr_db(speech, speech + noise, RATE_HZ) == snr_db  # 1 dB off a step
    assert rounded_snr_db(np.tile(speech, 2), np.tile(speech + noise, 2), RATE_HZ) == snr_db


def test_silence_has_no_snr() -> None:
    some, none = np.ones(RATE_HZ, np.float32), np.zeros(RATE_HZ, np.float32)
    assert rounded_snr_db(some, some, RATE_HZ) == math.inf
    assert math.isnan(rounded_snr_db(none, some, RATE_HZ))
    assert math.isnan(rounded_snr_db(none[:0], none[:0], RATE_HZ))


# Statistics


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    assert interval(values) == pytest.approx(1.96 * values.std() / math.sqrt(len(values)), rel=0.1)
    assert interval(values) == interval(values)
    assert interval(np.full(5, 2.0)) == 0.0
    assert math.isnan(interval(np.ones(1)))


def test_what_is_not_finite_is_left_out_of_means_and_told() -> None:
    first, second = [[1.0, 2.0], [2.0, -math.inf]], [[math.nan, 4.0], [3.0, 6.0]]
    found = made_up([first, second, [[3.0, 6.0], [5.0, 9.0]]])
    np.testing.assert_allclose(found.figures()["mean"], [[2.0, 4.0], [10 / 3, 7.5]])
    # Of the files for which both are known.
    np.testing.assert_allclose(found.figures()["gain"], [[0.0, 0.0], [1.5, 2.5]])
    assert found.left_out() == (
        "left out of the means, where the metric has no value: PESQ-WB of noisy for 1, "
        "SI-SDR (dB) of net for 1 of 3 files."
    )
    assert made_up([[[1.0, 2.0], [2.0, 3.0]]]).left_out() is None
    assert math.isnan(mean(np.array([math.nan, math.inf])))


def test_changes_are_compared_file_by_file() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.normal(0.0, 10.0, (50, 1, 2))
    better = noisy + 1.0 + rng.normal(0.0, 0.1, noisy.shape)
    found = made_up(np.concatenate([noisy, better], axis=1).tolist())
    np.testing.assert_allclose(found.figures()["gain"][1], 1.0, atol=0.1)
    assert (found.figures()["gain_ci95"][1] < 0.1).all()
    assert (found.figures()["mean_ci95"] > 1.0).all()


def test_groups_hold_every_file_once() -> None:
    snr_db, noises = np.array([10.0, -5.0, math.inf, -5.0]), ("b", "a", "b", "c")
    found = made_up([[[1.0, 2.0], [2.0, 3.0]]] * 4, snr_db=snr_db, noises=noises)
    groups = [(name, np.flatnonzero(of).tolist()) for name, of in found.by_snr().items()]
    assert groups == [("-5 dB", [1, 3]), ("10 dB", [0]), ("none", [2])]
    groups = [(name, np.flatnonzero(of).tolist()) for name, of in found.by_noise().items()]
    assert groups == [("a", [1]), ("b", [0, 2]), ("c", [3])]


# Scoring


def test_a_model_is_scored_as_its_stream_sounds(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = [meter for meter in scoring.METERS if "OVRL" not in meter.metrics]  # it takes seconds
    monkeypatch.setattr(scoring, "METERS", quick)
    for name in ("001_busy_street_+15dB.flac", "002_fan_+15dB.flac"):
        (pairs / "clean" / name).unlink()
        (pairs / "noisy" / name).unlink()
    seen: list[tuple[int, ...]] = []
    found = evaluate(pairs, ["seed"], processes=1, progress=lambda *of: seen.append(of))
    assert (found.folder, found.systems, found.metrics, found.noises) == (
        "pairs",
        ("noisy", "seed"),
        tuple(metric for meter in quick for metric in meter.metrics if metric in METRICS),
        ("fan",),
    )
    assert found.scores.shape == (1, 2, len(METRICS) - 3)
    assert seen == [(1, 1)]
    clean, noisy = (read(pairs / side / found.files[0]) for side in ("clean", "noisy"))
    stream = StreamDenoiser("seed", rate_hz=RATE_HZ)
    denoised = as_recording(stream, noisy[:, None], RATE_HZ)[:, 0]
    for row, signal_ in enumerate((noisy, denoised)):
        wanted = [
            pesq_wb(clean, signal_, RATE_HZ),
            estoi(clean, signal_, RATE_HZ),
            si_sdr_db(clean, signal_),
            dnsmos_p808(signal_, RATE_HZ),
            *(distill_mos(signal_, RATE_HZ) for _ in JUDGE),
        ]
        np.testing.assert_allclose(found.scores[0, row], wanted, atol=1e-3)
    assert found.details["seed"]["sha256"] == sha256_of(find_model("seed"))
    assert found.details["seed"]["settings"]["limit_db"] is None
    assert found.details["seed"]["lead_in"]


@pytest.mark.usefixtures("only_si_sdr")
def test_live_sound_is_scored_beside_files(tmp_path: Path) -> None:
    write_pair(tmp_path, "fan.flac", seconds=1.0)
    found = evaluate(tmp_path, ["seed"], live=True, processes=1)
    assert found.systems == ("noisy", "seed", "seed live")
    clean, noisy = (read(tmp_path / side / "fan.flac") for side in ("clean", "noisy"))
    settings, _ = settings_for_latency(30, model="seed")
    stream = StreamDenoiser("seed", settings, rate_hz=RATE_HZ)
    denoised = np.concatenate([stream.feed(noisy[:, None]), stream.flush()])[:, 0]
    assert found.scores[0, 2, 0] == pytest.approx(si_sdr_db(clean, denoised), abs=1e-3)
    assert found.scores[0, 1, 0] != found.scores[0, 2, 0]


@pytest.mark.usefixtures("only_si_sdr")
def test_any_function_can_be_scored(pairs: Path) -> None:
    found = score_pairs(pairs, {"halved": halved}, processes=1)
    assert found.systems == ("noisy", "halved")
    # SI-SDR does not depend on the level.
    np.testing.assert_allclose(found.scores[:, 1], found.scores[:, 0], atol=1e-4)
    np.testing.assert_array_equal(found.snr_db, [5.0, 15.0, 15.0])
    assert found.noises == ("fan", "busy_street", "fan")


def test_several_processes_give_what_one_gives_in_order(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What takes long is missing: other processes do not see METERS changed.
    monkeypatch.setattr(scoring, "_missing", list)
    processor = StreamProcessor(SMALL_MODEL)
    alone, together = (score_pairs(pairs, {"net": processor}, processes=n) for n in (1, 2))
    np.testing.assert_allclose(together.scores, alone.scores, atol=1e-6)
    assert together.files == alone.files


def test_metrics_can_be_chosen(pairs: Path) -> None:
    found = score_pairs(pairs, {}, metrics=["si-sdr", "P.808"], processes=1)
    assert found.metrics == ("SI-SDR (dB)", "P.808")


@pytest.mark.usefixtures("only_si_sdr")
def test_signals_of_two_lengths_and_rates_are_compared_as_far_as_both_go(pairs: Path) -> None:
    (pairs / "clean" / "000_fan_+5dB.flac").unlink()
    clean, _ = bundled()
    longer = soxr.resample(clean[: 3 * RATE_HZ], RATE_HZ, 48000)
    soundfile.write(pairs / "clean" / "000_fan_+5dB.flac", longer, 48000)
    found = score_pairs(pairs, {}, processes=1)
    assert 0.0 < found.scores[0, 0, 0] < 10.0


@pytest.mark.usefixtures("only_si_sdr")
def test_a_processor_must_return_as_much_as_it_got_and_have_a_name_of_its_own(pairs: Path) -> None:
    with pytest.raises(InputError, match="cut returned shape"):
        score_pairs(pairs, {"cut": cut}, processes=1)
    with pytest.raises(InputError, match="'noisy' is the name of the input"):
        score_pairs(pairs, {"noisy": halved}, processes=1)
    with pytest.raises(InputError, match="processes"):
        score_pairs(pairs, {}, processes=0)


def test_a_process_that_dies_is_told_in_one_sentence(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_missing", list)  # of metrics, what takes long
    with pytest.raises(RtdenError, match="ended early"):
        score_pairs(pairs, {"fatal": fatal}, processes=2)


def test_a_damaged_recording_is_told_before_the_work(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pairs / "noisy" / "002_fan_+15dB.flac").write_bytes(b"no audio")
    monkeypatch.setattr(scoring, "_score", lambda *_: pytest.fail("the work began"))
    with pytest.raises(AudioFileError, match=r"002_fan_\+15dB\.flac"):
        score_pairs(pairs, {}, processes=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("no_dnsmos")
def test_silence_and_what_is_too_short_have_no_scores_but_do_not_stop_the_others(
    tmp_path: Path,
) -> None:
    write_pair(tmp_path, "good.wav")
    write_pair(tmp_path, "short.wav", seconds=0.01)
    write_pair(tmp_path, "silent.wav")
    write_pair(tmp_path, "empty.wav", seconds=0.0)
    soundfile.write(tmp_path / "clean" / "silent.wav", np.zeros(2 * RATE_HZ), RATE_HZ)
    found = evaluate(tmp_path, ["seed"], processes=1)
    assert np.isfinite(found.scores[found.files.index("good.wav")]).all()
    for name in ("silent.wav", "short.wav", "empty.wav"):
        assert np.isnan(found.scores[found.files.index(name), :, 0]).all()
    assert np.isfinite(found.figures()["mean"]).all()
    assert "PESQ-WB of noisy for 3" in str(found.left_out())
    assert list(found.by_snr()) == ["5 dB", "none"]
    assert found.by_noise().keys() == {"all"}
    json.loads(to_json(found), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_metrics_whose_package_is_missing_are_left_out_with_a_sentence(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing_packages() is None
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("pesq", "speechmos", "distillmos") else find(name),
    )
    assert missing_packages() == (
        "PESQ-WB, SIG, BAK, OVRL, P.808 cannot be measured without pesq and speechmos: "
        f"run {install_command('eval')}"
    )
    found = score_pairs(pairs, {}, processes=1)
    assert found.metrics == ("ESTOI", "SI-SDR (dB)")
    assert [found.metrics[column] for column in found.headline] == ["ESTOI", "SI-SDR (dB)"]
    assert len(tables(found)) == 3


# What is written and shown


def test_the_json_holds_files_means_and_groups() -> None:
    found = made_up(
        [[[1.0, 2.0], [2.0, 5.0]], [[math.nan, 4.0], [3.0, 6.0]]], details={"net": {"sha256": "ab"}}
    )
    content = json.loads(to_json(found))
    assert content["pairs"] == 2
    assert content["files"][1] == {
        "name": "1.wav",
        "snr_db": 5.0,
        "noise": "fan",
        "scores": {
            "noisy": {"PESQ-WB": None, "SI-SDR (dB)": 4.0},
            "net": {"PESQ-WB": 3.0, "SI-SDR (dB)": 6.0},
        },
    }
    net = content["systems"]["net"]
    assert net["sha256"] == "ab"
    assert net["scores"]["SI-SDR (dB)"] == {
        "mean": 5.5,
        "mean_ci95": 0.5,
        "gain": 2.5,
        "gain_ci95": 0.5,
    }
    assert net["by_snr"]["5 dB"] == {
        "pairs": 1,
        "mean": {"PESQ-WB": 3.0, "SI-SDR (dB)": 6.0},
        "mean_ci95": {"PESQ-WB": None, "SI-SDR (dB)": None},
    }
    assert net["by_noise"]["fan"]["pairs"] == 2
    assert {"python", "rtden", "numpy"} <= content["versions"].keys()


def test_the_tables_show_means_changes_and_groups() -> None:
    shown = io.StringIO()
    screen = Console(file=shown, width=120)
    for table in tables(
        made_up([[[1.0, 2.0], [1.5, 5.0]], [[2.0, 4.0], [2.5, 6.0]], [[3.0, 3.0], [3.5, 5.5]]])
    ):
        screen.print(table)
    text = shown.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"PESQ-WB\* +2\.000 +2\.500 \(\+0\.500 ± 0\.000\)", text)
    assert re.search(r"SI-SDR \(dB\) +3\.00 +5\.50 \(\+2\.50 ± 0\.50\)", text)
    assert re.search(r"0 dB +2 +noisy +2\.000 +2\.50 *\n +net +2\.500 +5\.25", text)
    assert re.search(r"fan +3 +noisy +2\.000 +3\.00 *\n +net +2\.500 +5\.50", text)
    assert text.count("* the training loss has a model of it") == 3


def test_a_table_without_stars_has_no_note_about_them() -> None:
    found = made_up([[[1.0], [5.0]]], metrics=("SI-SDR (dB)",))
    assert not any(table.caption for table in tables(found))


def test_the_picture_has_a_panel_for_each_headline_metric(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    rng, out = np.random.default_rng(0), tmp_path / "deep" / "scores.png"
    for systems in (1, 8):
        names = ("noisy", *(f"net {number}" for number in range(1, systems)))
        scores = rng.random((8, systems, len(METRICS))).tolist()
        found = made_up(scores, systems=names, metrics=METRICS)
        found.scores[0, 0, 0] = math.nan
        plot_scores(found, out, force=out.exists())
        pixels = image.imread(out)[..., :3]
        assert pixels.shape[:2] == (480, round(412.5 * (5 + len(JUDGE))))
        for panel in range(4):
            assert pixels[100:400, 420 * panel : 420 * (panel + 1) - 40].var() > 1e-3
        assert (pixels[:5] == 1.0).all()
        with pytest.raises(AudioFileError, match="exists already"):
            plot_scores(found, out)


def test_a_picture_that_cannot_be_drawn_is_told_before_the_work(tmp_path: Path) -> None:
    for name in ("scores.nosuchformat", "scores"):
        with pytest.raises(AudioFileError, match=r"such as \.png"):
            check_picture(tmp_path / name, force=False)
    (tmp_path / "plain").touch()
    with pytest.raises(AudioFileError, match="cannot be written"):
        plot_scores(made_up([[[1.0, 2.0], [2.0, 3.0]]]), tmp_path / "plain" / "scores.png")


# The command


run = functools.partial(invoke, "eval")


def test_the_command_prints_tables_and_writes_json_and_picture(pairs: Path, tmp_path: Path) -> None:
    for side in ("clean", "noisy"):
        for name in ("000_fan_+5dB.flac", "002_fan_+15dB.flac"):
            (pairs / side / name).unlink()
    options = ("--limit-db", "12")
    metrics = ("--metric", "pesq-wb", "--metric", "si-sdr", "--processes", "1")
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    arguments = ("--pairs", str(pairs), "--model", "seed", *options, *metrics, *files)
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.startswith("1 pair; ")
    for metric in ("PESQ-WB", "SI-SDR (dB)"):
        line = rf"^ {re.escape(metric)}\*? +-?\d+\.\d+ +-?\d+\.\d+ \([+-]\d+\.\d+ ± –\) *$"
        assert len(re.findall(line, result.stdout, re.MULTILINE)) == 1, result.stdout
    written = f"figures: {tmp_path / 'out.json'}", f"picture: {tmp_path / 'out.png'}"
    for word in ("busy_street", "15 dB", *written):
        assert word in result.stdout
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert list(content["systems"]) == ["noisy", "seed"]
    assert content["systems"]["seed"]["settings"]["limit_db"] == 12.0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("only_si_sdr")
def test_the_command_overwrites_only_by_force(pairs: Path, tmp_path: Path) -> None:
    arguments = (
        "--pairs",
        pairs,
        "-m",
        SMALL_MODEL,
        "--json",
        tmp_path / "out.json",
        "--processes",
        1,
    )
    assert run(*arguments).exit_code == 0
    (tmp_path / "out.json").write_bytes(b"something dear")
    again = run(*arguments)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert (tmp_path / "out.json").read_bytes() == b"something dear"
    assert run(*arguments, "--force").exit_code == 0
    assert json.loads((tmp_path / "out.json").read_bytes())["pairs"] == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nowhere", ["nowhere", "no folder"]),
        ("empty", ["empty", "clean/"]),
        ("unequal", ["unequal", "stands alone"]),
        ("slow --processes 1", ["4000 Hz"]),
        ("pairs --model nosuchmodel", ["nosuchmodel", "seed"]),
        ("pairs --model noisy", ["noisy"]),
        ("pairs --limit-db -1", ["limit_db", "-1"]),
        ("pairs --processes 0", ["processes", "0"]),
        ("pairs --json taken.txt", ["taken.txt", "--force"]),
        ("pairs --plot taken.txt", ["taken.txt", "--force"]),
        ("pairs --plot scores", ["scores", ".png"]),
        ("pairs --transcripts nowhere", ["nowhere"]),
        ("pairs --metric wer", ["wer", "--transcripts"]),
        ("pairs --metric mos", ["mos", "si-sdr, wer"]),
        ("pairs --metric ' '", ["no metric", "si-sdr, wer"]),
        ("pairs --transcripts taken.txt", ["taken.txt"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("only_si_sdr")
def test_a_mistake_is_told_in_one_sentence_and_nothing_is_written(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("taken.txt").touch()
    write_pair(tmp_path / "unequal", "a.wav", seconds=0.5)
    (tmp_path / "unequal" / "noisy" / "b.wav").touch()
    write_pair(tmp_path / "slow", "a.wav", seconds=0.5, rate_hz=4000)
    before = sorted(tmp_path.rglob("*"))
    result = run("--pairs", *shlex.split(line))
    assert_one_sentence(result.exit_code, result.stdout, result.stderr)
    for word in words:
        assert word in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
