from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import RTDEN, invoke, names, rtden, started
from conftest import DATA, SMALL_MODEL
from waiting import LIMIT_SECONDS, until

from rtden import Settings, denoise_file
from rtden.errors import AudioFileError, InputError, MissingPackageError, ModelError, RtdenError
from rtden.files import batch, listing, processes
from rtden.files.batch import denoise_files, denoise_part
from rtden.files.listing import MANIFEST
from rtden.files.manifest import Job, Manifest, Outcome, sha256_of
from rtden.model import find_model, load_spec


def plan(sources: list[str], output: str | None) -> list[tuple[str, str]]:
    return listing.plan(sources, output).pairs


def record(
    path: Path, seconds: float = 0.3, rate_hz: int = 22050, channels: int = 1, seed: int = 0
) -> Path:
    """A recording of noise that comes and goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(
        (round(seconds * rate_hz), channels)
    )
    soundfile.write(
        path, samples * np.sin(np.arange(len(samples)) / rate_hz * 9.0)[:, None] ** 2, rate_hz
    )
    return path


def contents(folder: Path) -> dict[str, Any]:
    """The samples of all recordings, to the bit (some containers have the time or a random number
    beside them), and the bytes of what is none.
    """
    found: dict[str, Any] = {}
    for name in names(folder):
        try:
            samples, rate_hz = soundfile.read(folder / name, dtype="float32")
            subtype = soundfile.info(folder / name).subtype
            found[name] = (subtype, rate_hz, samples.shape, samples.tobytes())
        except soundfile.LibsndfileError:
            found[name] = (folder / name).read_bytes()
    found.pop(MANIFEST, None)
    return found


def entries(folder: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [
        json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    ]


def run(
    *sources: str, output: str | None = "out", jobs: int | None = 1, **options: Any
) -> list[Outcome]:
    found = plan(list(sources), output)
    return list(denoise_files(found, sources if output is None else [output], jobs=jobs, **options))


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.source: outcome.state for outcome in outcomes}


@pytest.fixture
def folder(tmp_path: Path, small_model: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; in/ has four recordings. The default model is one that costs little."""
    monkeypatch.setattr(batch, "DEFAULT_MODEL", str(SMALL_MODEL))
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.wav", "b.flac", "deep/a.wav", "deep/er/c.ogg")):
        rate_hz, channels = (22050, 16000)[number % 2], 1 + number // 2
        record(tmp_path / "in" / name, rate_hz=rate_hz, channels=channels, seed=number)
    return tmp_path


@pytest.fixture
def finished(folder: Path) -> Path:
    """The working folder after a run."""
    assert set(states(run("in")).values()) == {"denoised"}
    return folder


def expected(folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """What one call after another of denoise_file makes of in/."""
    for source, target in plan([str(folder / "in")], str(folder / "one by one")):
        denoise_file(source, target, settings=settings, force=True)
    return contents(folder / "one by one")


# What is made, and what is written down


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_folder_gives_what_its_recordings_give_one_by_one(folder: Path, jobs: int) -> None:
    wanted = expected(folder, Settings(limit_db=20.0))
    outcomes = run("in", jobs=jobs, settings=Settings(limit_db=20.0))
    assert contents(folder / "out") == wanted
    assert names(folder / "out") == ["a.wav", "b.flac", "deep/a.wav", "deep/er/c.ogg", MANIFEST]
    reports = {outcome.source: outcome.report for outcome in outcomes}
    assert all(
        report and report.source == source and report.seconds == pytest.approx(0.3)
        for source, report in reports.items()
    )


def test_the_order_does_not_matter(folder: Path) -> None:
    wanted = expected(folder)
    pairs = plan(["in"], "out")
    list(denoise_files(pairs[::-1], ["out"], jobs=1))
    assert contents(folder / "out") == wanted


def test_the_manifest_says_what_was_done(finished: Path) -> None:
    lines = {line["target"]: line for line in entries(finished / "out")}
    assert len(entries(finished / "out")) == len(lines) == 4
    line = lines["deep/er/c.ogg"]
    assert line["source"] == "../in/deep/er/c.ogg"
    assert line["source_sha256"] == sha256_of("in/deep/er/c.ogg")
    assert line["target_sha256"] == sha256_of("out/deep/er/c.ogg")
    assert (line["model"], line["model_sha256"]) == (SMALL_MODEL.stem, sha256_of(SMALL_MODEL))
    assert line["settings"] == {**Settings().to_dict(), "full_band": True}
    assert (line["status"], line["error"]) == ("ok", None)
    assert line["seconds"] == pytest.approx(0.3)
    assert line["real_time_factor"] > 0
    assert isinstance(line["noise_removed_db"], float)
    assert line["rtden"]


def test_without_an_output_the_manifest_lies_in_the_named_folder_or_beside_a_named_recording(
    folder: Path,
) -> None:
    record(folder / "apart" / "d.wav")
    assert set(states(run("in", "apart/d.wav", output=None)).values()) == {"denoised"}
    assert [line["target"] for line in entries(folder / "apart")] == ["d.denoised.wav"]
    written = ["a.denoised.wav", "b.denoised.flac", "deep/a.denoised.wav", "deep/er/c.denoised.ogg"]
    assert sorted(line["target"] for line in entries(folder / "in")) == written
    assert set(states(run("in", "apart/d.wav", output=None)).values()) == {"skipped"}
    assert not [name for name in names(folder) if ".part" in name]


# The same command again


def test_what_is_finished_is_skipped(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "out" / MANIFEST).read_bytes()
    monkeypatch.setattr(
        batch, "denoise_part", lambda job: pytest.fail(f"{job.source} is done again")
    )
    for force in (False, True):
        assert set(states(run("in", force=force)).values()) == {"skipped"}
    shutil.move("out", "elsewhere")
    os.utime("in/a.wav")  # content decides
    os.utime("elsewhere/a.wav")
    assert set(states(run("in", output="elsewhere")).values()) == {"skipped"}
    assert (finished / "elsewhere" / MANIFEST).read_bytes() == before


def test_new_and_changed_recordings_are_done_and_others_skipped(finished: Path) -> None:
    kept = os.stat("in/a.wav")
    record(finished / "in" / "a.wav", seed=7)
    os.utime(
        "in/a.wav", ns=(kept.st_atime_ns, kept.st_mtime_ns)
    )  # of the same length and time, too
    record(finished / "in" / "new.wav", seed=8)
    skipped = dict.fromkeys(("in/b.flac", "in/deep/a.wav", "in/deep/er/c.ogg"), "skipped")
    assert states(run("in")) == {"in/a.wav": "denoised", "in/new.wav": "denoised", **skipped}
    assert contents(finished / "out") == expected(finished)


@pytest.mark.parametrize(
    "options", [{"settings": Settings(limit_db=3.0)}, {"full_band": False}, {"model": "rtden"}]
)
def test_another_wish_does_everything_again(finished: Path, options: dict[str, Any]) -> None:
    before = contents(finished / "out")
    assert set(states(run("in", **options)).values()) == {"denoised"}
    assert (contents(finished / "out") != before) == (
        "full_band" not in options
    )  # there is nothing above the band
    assert set(states(run("in", **options)).values()) == {"skipped"}
    assert len(entries(finished / "out")) == 8


def test_damaged_results_are_made_again(finished: Path) -> None:
    missing, empty, cut = (finished / "out" / name for name in ("a.wav", "b.flac", "deep/a.wav"))
    before = contents(finished / "out")
    missing.unlink()
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    again = {source for source, state in states(run("in")).items() if state == "denoised"}
    assert again == {"in/a.wav", "in/b.flac", "in/deep/a.wav"}
    assert contents(finished / "out") == before


def test_results_that_somebody_has_changed_are_kept_unless_forced(finished: Path) -> None:
    before = contents(finished / "out")
    record(finished / "out" / "a.wav", 1.0)
    (finished / "out" / "b.flac").write_bytes(b"something dear")
    dear = contents(finished / "out")
    failed = [outcome for outcome in run("in") if outcome.state != "skipped"]
    assert states(failed) == dict.fromkeys(("in/a.wav", "in/b.flac"), "failed")
    for outcome in failed:
        assert f"{outcome.target} exists already and was changed" in outcome.error
    assert contents(finished / "out") == dear
    assert list(states(run("in", force=True)).values()).count("denoised") == 2
    assert contents(finished / "out") == before


def test_a_foreign_file_in_the_way_is_kept_unless_forced(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a.wav").write_bytes(b"something dear")
    outcomes = run("in")
    others = dict.fromkeys(("in/b.flac", "in/deep/a.wav", "in/deep/er/c.ogg"), "denoised")
    assert states(outcomes) == {"in/a.wav": "failed", **others}
    advice = "choose another file, or overwrite it with --force (force=True in Python)."
    assert outcomes[0].error == f"out/a.wav exists already; {advice}"
    assert (folder / "out" / "a.wav").read_bytes() == b"something dear"
    assert states(run("in", force=True))["in/a.wav"] == "denoised"
    assert contents(folder / "out") == expected(folder)


def test_a_file_that_comes_in_the_way_meanwhile_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(job: Job) -> Any:
        part = denoise_part(job)
        Path(job.target).write_bytes(b"something dear")
        return part

    monkeypatch.setattr(batch, "denoise_part", late)
    assert set(states(run("in")).values()) == {"failed"}
    assert set(contents(folder / "out").values()) == {b"something dear"}
    assert {line["status"] for line in entries(folder / "out")} == {"failed"}


def test_recordings_that_change_their_names_with_each_other_change_their_results(
    finished: Path,
) -> None:
    for source, target in (("a.wav", "x.wav"), ("deep/a.wav", "a.wav"), ("x.wav", "deep/a.wav")):
        shutil.move(finished / "in" / source, finished / "in" / target)
    found = {state for source, state in states(run("in")).items() if source.endswith("a.wav")}
    assert found == {"denoised"}
    assert contents(finished / "out") == expected(finished)
    assert set(states(run("in")).values()) == {"skipped"}


# Runs that were killed


@pytest.mark.parametrize("torn", [b"", b"{", b'{"source": "../in/a.wav", "target": "a.w'])
def test_a_torn_last_line_is_no_line(finished: Path, torn: bytes) -> None:
    path = finished / "out" / MANIFEST
    *others, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(others) + torn)
    target = finished / "out" / json.loads(last)["target"]
    target.unlink()  # it was to be moved there after that line
    assert sorted(states(run("in")).values()) == ["denoised", "skipped", "skipped", "skipped"]
    assert set(states(run("in")).values()) == {"skipped"}
    assert contents(finished / "out") == expected(finished)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4 + bool(torn)
    assert json.loads(lines[-1])["source_sha256"] == json.loads(last)["source_sha256"]


def test_a_whole_line_without_its_end_counts(finished: Path) -> None:
    path = finished / "out" / MANIFEST
    path.write_bytes(path.read_bytes().rstrip())
    record(finished / "in" / "new.wav", seed=9)
    assert sorted(states(run("in")).values()) == ["denoised", *["skipped"] * 4]
    assert len(entries(finished / "out")) == 5


def test_lines_that_are_no_entries_do_no_harm(finished: Path) -> None:
    path = finished / "out" / MANIFEST
    first, *others = path.read_bytes().splitlines()
    wrong = [b"[]", b"null", b"{}", b'{"status": "ok"}', b"\xff\xfe"]
    wrong.append(b'{"source": [], "target": {}, "status": "ok"}')
    later = json.dumps({**json.loads(first), "of a later version": 1}).encode()
    path.write_bytes(b"\n".join([*wrong, later, *others, b""]))
    assert set(states(run("in")).values()) == {"skipped"}


def test_parts_of_a_run_that_was_killed_are_removed_and_those_of_others_kept(
    finished: Path,
) -> None:
    manifest = Manifest(finished / "out", Job("", "", "", "rtden", "", {"settings": Settings()}))
    manifest.close()
    left = finished / "out" / "deep" / f"{Path(manifest.run).name}-0123456789abcdef.part"
    left.write_bytes(b"half a recording")
    other = finished / "out" / ".a.wav.01234567.part"
    other.write_bytes(b"of a run that goes on")
    assert set(states(run("in")).values()) == {"skipped"}
    assert not left.exists()
    assert other.exists()


def test_two_runs_at_a_time_do_not_meet(finished: Path) -> None:
    manifest = Manifest(finished / "out", Job("", "", "", "rtden", "", {"settings": Settings()}))
    manifest.begin()
    with pytest.raises(AudioFileError, match="in use by another rtden"):
        run("in")
    assert Path(manifest.run).exists()
    manifest.close()
    assert set(states(run("in")).values()) == {"skipped"}


# What goes wrong


def test_a_recording_that_fails_does_not_stop_the_others(folder: Path) -> None:
    (folder / "in" / "bad.wav").write_bytes(b"no audio")
    whole = (folder / "in" / "a.wav").read_bytes()
    (folder / "in" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    ended = invoke("file", "in", "-o", "out", "--jobs", 1)
    assert ended.exit_code == 2
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len([line for line in lines if " -> " in line]) == 4
    assert lines[-1].startswith("rtden: 2 of 6 files failed")
    assert names(folder / "out") == ["a.wav", "b.flac", "deep/a.wav", "deep/er/c.ogg", MANIFEST]
    bad = (line for line in entries(folder / "out") if line["status"] == "failed")
    failed = {line["target"]: line["error"] for line in bad}
    assert sorted(failed) == ["bad.wav", "cut.wav"]
    assert "is not sound" in failed["bad.wav"]
    assert all(f"rtden: {sentence}" in lines for sentence in failed.values())
    again = invoke("file", "in", "-o", "out")
    assert again.exit_code == 2
    assert "4 skipped: finished before." in again.stderr.splitlines()


def test_names_of_no_files_leave_nothing_behind(folder: Path) -> None:
    for output in ([], ["-o", "out"]):
        ended = invoke("file", "x.wav", "y.wav", *output, "--jobs", 1)
        assert ended.exit_code == 2
        assert "rtden: there is no file y.wav; check the name." in ended.stderr.splitlines()
        assert [path.name for path in folder.iterdir()] == ["in"]
    ended = invoke("file", "x.wav", "in/a.wav", "-o", "out", "--jobs", 1)
    assert ended.exit_code == 2
    assert [line["status"] for line in entries(folder / "out")] == ["ok"]


def test_a_recording_that_is_still_being_written_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def while_written(*args: Any, **kwargs: Any) -> Any:
        report = denoise_file(*args, **kwargs)
        record(folder / "in" / "a.wav", 1.0)
        return report

    monkeypatch.setattr(batch, "denoise_file", while_written)
    pairs = [("in/a.wav", "out/a.wav"), ("in/b.flac", "out/b.flac")]
    first, second = denoise_files(pairs, ["out"], jobs=1)
    assert "in/a.wav was changed while it was read" in first.error
    assert second.state == "denoised"
    assert names(folder / "out") == ["b.flac", MANIFEST]


def test_an_error_that_nobody_expected_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: str, *_: Any, **__: Any) -> None:
        raise MemoryError if source.endswith("ogg") else ZeroDivisionError("division by zero")

    monkeypatch.setattr(batch, "denoise_file", broken)
    outcomes = run("in")
    assert set(states(outcomes).values()) == {"failed"}
    assert (
        "in/a.wav could not be denoised (ZeroDivisionError: division by zero)" in outcomes[0].error
    )


def test_a_wish_that_cannot_be_met_is_told_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(InputError, match="jobs"):
        run("in", jobs=0)
    with pytest.raises(ModelError, match="nosuchmodel"):
        run("in", model="nosuchmodel")
    with pytest.raises(AudioFileError, match="standard input"):
        list(denoise_files([("-", "-"), ("in/a.wav", "out/a.wav")], ["out"]))
    assert not (folder / "out").exists()
    (folder / "out").mkdir()
    (folder / "out" / MANIFEST).mkdir()
    with pytest.raises(AudioFileError, match=MANIFEST):
        run("in")


def test_the_environment_is_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = dict(os.environ)
    assert set(states(run("in", jobs=2)).values()) == {"denoised"}
    assert dict(os.environ) == before


# Workers that die


def part_or_death(job: Job) -> Any:
    """The work, but one recording kills whoever works on it, and another one, which is done before
    it, the first that does.
    """
    name = Path(job.source).name
    died = Path(job.source).with_suffix(".died")
    first = Path(job.source).with_name("again.wav")
    while name == "fatal.wav" and first.exists() and not first.with_suffix(".died").exists():
        time.sleep(0.01)  # or both would die of this one, and the other once more
    if name == "fatal.wav" or (name == "again.wav" and not died.exists()):
        died.touch()
        Path(f"{job.target}.part").touch()  # not one of ours
        Path(job.target).with_name(f"{Path(job.run).name}-dead.part").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return denoise_part(job)


def test_a_killed_worker_takes_only_a_recording_that_kills_twice_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(folder / "in" / "again.wav")
    wanted = expected(folder)
    record(folder / "in" / "fatal.wav")
    monkeypatch.setattr(batch, "denoise_part", part_or_death)
    outcomes = run("in", jobs=2)
    assert {
        outcome.target: outcome.state for outcome in outcomes if outcome.state != "denoised"
    } == {"out/fatal.wav": "failed"}
    (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
    assert "its process died twice" in failed.error
    (folder / "out" / "again.wav.part").unlink()
    (folder / "out" / "fatal.wav.part").unlink()
    assert contents(folder / "out") == wanted


def children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [*map(int, children.split())]


def until_gone(pids: list[int]) -> None:
    until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])


@pytest.mark.parametrize("everybody", [True, False])
def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(
    folder: Path, everybody: bool
) -> None:
    for number in range(4):
        record(folder / "long" / f"{number}.wav", 6.0, seed=number)
    record(folder / "long" / "short.wav", 2.0)
    arguments = ["file", "long", "-o", "out", "--jobs", "2"]
    with started([*RTDEN, *arguments], start_new_session=True) as process:
        first = process.stderr.readline()
        workers = children(process.pid)
        # A terminal sends it to everybody.
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_SECONDS)
    assert " -> " in first
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("rtden: stopped; ")
    assert "Traceback" not in err
    until_gone(workers)  # multiprocessing's helper, too, when it sees that its starter has gone
    done = [line["target"] for line in entries(folder / "out")]
    assert 0 < len(done) < 5
    assert names(folder / "out") == sorted([*done, MANIFEST])
    if not everybody:  # what is left is the same; the next test goes on after a kill, too
        return
    ended = rtden(*arguments, check=True)
    assert f"{len(done)} skipped: finished before." in ended.stderr
    written = [*(f"{number}.wav" for number in range(4)), "short.wav"]
    assert sorted(line["target"] for line in entries(folder / "out")) == written
    denoise_file("long/3.wav", "3.wav", model="rtden")
    assert sha256_of("3.wav") == sha256_of("out/3.wav")


def test_after_a_run_that_was_killed_the_same_command_goes_on(folder: Path) -> None:
    for number in range(4):
        record(folder / "long" / f"{number}.ogg", 6.0 + number, seed=number)
    arguments = ["file", "long", "-o", "out", "--jobs", "2"]
    with started([*RTDEN, *arguments], stdout=subprocess.DEVNULL) as process:
        process.stderr.readline()
        workers = children(process.pid)
        process.kill()
    until_gone(workers)  # a worker sees at the end of its recording that nobody waits for it
    assert [name for name in names(folder / "out") if name.startswith(".")]
    ended = rtden(*arguments, check=True)
    assert "failed" not in ended.stderr
    assert names(folder / "out") == [*(f"{number}.ogg" for number in range(4)), MANIFEST]
    assert set(states(run("long", model="rtden")).values()) == {"skipped"}


# A cluster


def a_cluster(workers: int) -> Any:
    """Return a cluster with a number of workers, each a process."""
    import distributed

    # Without a port that another process of the tests may have.
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0"
    )


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time to connect."""
    monkeypatch.setattr(processes, "CONNECT_SECONDS", LIMIT_SECONDS)


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    with a_cluster(2) as made:
        yield made


@pytest.fixture
def cluster(workers: Any, patience: None) -> Any:
    """Two workers; those that a test before killed have come back."""
    until(lambda: len(pids_of(workers)) == 2 and len(workers.scheduler_info["workers"]) == 2)
    return workers


def pids_of(cluster: Any) -> list[int]:
    """Return the ids of the processes that work for a cluster now."""
    pids = [worker.pid for worker in cluster.workers.values()]
    return [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()]


def test_a_cluster_gives_what_this_machine_gives_though_a_worker_is_killed(
    folder: Path, cluster: Any
) -> None:
    for number in range(6):
        record(folder / "in" / f"{number}.wav", 5.0, seed=number)
    wanted = expected(folder)
    killed = cluster.workers[0].pid
    outcomes: list[Outcome] = []
    for outcome in denoise_files(plan(["in"], "out"), ["out"], dask=cluster.scheduler_address):
        if not outcomes:
            os.kill(killed, signal.SIGKILL)
        outcomes.append(outcome)
    assert set(states(outcomes).values()) == {"denoised"}
    assert len(outcomes) == 10
    assert contents(folder / "out") == wanted
    assert sorted(line["target"] for line in entries(folder / "out")) == sorted(wanted)
    (folder / "in" / "bad.wav").write_bytes(b"no audio")
    again = states(
        list(denoise_files(plan(["in"], "out"), ["out"], dask=cluster.scheduler_address))
    )
    assert again.pop("in/bad.wav") == "failed"
    assert set(again.values()) == {"skipped"}
    # Ended in the midst: what workers do then is given up.
    options: dict[str, Any] = {"dask": cluster.scheduler_address}
    options["settings"] = Settings(limit_db=3.0)
    stopped = denoise_files(plan(["in"], "stopped"), ["stopped"], **options)
    next(stopped)
    stopped.close()
    until(lambda: len(names(folder / "stopped")) <= 1 + len(entries(folder / "stopped")))
    lines = entries(folder / "stopped")
    written = [line["target"] for line in lines if line["status"] == "ok"]
    assert names(folder / "stopped") == sorted([*written, MANIFEST])


@pytest.mark.usefixtures("patience")
def test_a_recording_that_kills_every_worker_of_a_cluster_fails_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask
    import distributed  # noqa: F401 - or its settings would go with those that are set below

    record(folder / "in" / "fatal.wav")
    monkeypatch.setattr(batch, "denoise_part", part_or_death)
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), a_cluster(2) as made:
        outcomes = list(denoise_files(plan(["in"], "out"), ["out"], dask=made.scheduler_address))
    found = {outcome.target: outcome.state for outcome in outcomes}
    assert found.pop("out/fatal.wav") == "failed"
    assert set(found.values()) == {"denoised"}


@pytest.mark.parametrize(
    ("address", "words"),
    [("tcp://127.0.0.1:9", "Timed out"), ("nonsense", "port"), ("nosuch://here:1", "scheme")],
)
def test_an_address_where_no_cluster_answers_is_given_up_soon(
    folder: Path, address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "CONNECT_SECONDS", 0.3)
    said = invoke("file", "in", "-o", "out", "--dask", address)
    assert said.exit_code == 2
    assert said.stderr.startswith(f"rtden: no dask scheduler answers at {address} ")
    assert words in said.stderr
    assert said.stderr.count("\n") == 1
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("patience")
def test_a_cluster_without_workers_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    monkeypatch.setattr(processes, "WORKERS_SECONDS", 0.5)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", protocol="tcp"
        ) as empty,
        pytest.raises(RtdenError, match="has had no worker"),
    ):
        list(denoise_files(plan(["in"], "out"), ["out"], dask=empty.scheduler_address))
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("patience")
def test_a_cluster_that_goes_away_ends_the_run_and_keeps_what_is_finished(folder: Path) -> None:
    for number in range(3):
        record(folder / "in" / f"{number}.wav", 15.0, seed=number)
    pairs = plan(["in"], "out")
    with a_cluster(1) as cluster:
        outcomes = denoise_files(pairs, ["out"], dask=cluster.scheduler_address)
        next(outcomes)
    with pytest.raises(RtdenError, match="connection to the dask cluster was lost"):
        list(outcomes)
    done = [line["target"] for line in entries(folder / "out")]
    assert names(folder / "out") == sorted([*done, MANIFEST])
    again = sorted(states(run("in")).values())
    assert again == ["denoised"] * (7 - len(done)) + ["skipped"] * len(done)


def test_a_missing_package_is_told_with_what_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        MissingPackageError, match="a dask cluster needs the package distributed: run "
    ):
        run("in", jobs=None, dask="tcp://127.0.0.1:9")


def test_a_worker_with_another_model_says_so(folder: Path) -> None:
    shutil.copy(find_model("seed"), "mine.tflite")
    shutil.copy(find_model("seed").with_suffix(".json"), "mine.json")
    path, sha256 = str(folder / "in" / "a.wav"), load_spec(find_model("rtden")).sha256
    options = {"settings": Settings()}
    job = Job("in/a.wav", "out/a.wav", path, "mine.tflite", sha256, options)
    assert "is another one than that of the command" in str(denoise_part(job))
    assert not (folder / "out").exists()


def test_the_bundled_recording_comes_out_as_ever(folder: Path) -> None:
    shutil.copytree(DATA, "data", ignore=shutil.ignore_patterns("*.py", "*.json", "models"))
    assert set(states(run("data", jobs=2)).values()) == {"denoised"}
    for name in ("noisy.flac", "clean.flac"):
        denoise_file(DATA / name, name)
        assert sha256_of(name) == sha256_of(f"out/{name}")


def test_results_that_die_with_their_workers_before_they_are_fetched_are_made_again(
    folder: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = processes._result
    killed: list[int] = []

    def kill_first(client: Any, future: Any) -> Any:
        if not killed:
            killed.extend(pids_of(cluster))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return fetch(client, future)

    monkeypatch.setattr(processes, "_result", kill_first)
    pairs = plan(["in"], "out")
    outcomes = list(denoise_files(pairs, ["out"], dask=cluster.scheduler_address))
    assert len(killed) == 2
    assert sorted(outcome.state for outcome in outcomes) == ["denoised"] * 4
