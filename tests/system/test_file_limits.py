"""`rtden file` at the system's limits: a full disk, signals, and its memory."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import RTDEN, ended, names, started
from sounds import noise
from waiting import LIMIT_SECONDS, until

from rtden import denoise_file
from rtden.files.listing import default_target


def write(path: Path, frames: int = 20011, channels: int = 2) -> Path:
    soundfile.write(path, noise(frames, channels), 22050)
    return path


def rtden_under(preparation: str, *arguments: str, **kwargs: Any) -> Any:
    """Run the command line after a Python statement in the same process, such as a limit."""
    code = (
        f"import resource, signal; {preparation}; from rtden.app.main import app; "
        f"app(prog_name='rtden')"
    )
    return ended([sys.executable, "-c", code, *arguments], **kwargs)


def size_limit(size: int) -> str:
    """Python code that makes every write beyond `size` bytes of a file fail, as on a full disk."""
    return (
        f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    )


def assert_one_sentence(run: Any) -> None:
    assert run.returncode == 2, run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith("rtden: "), run.stderr


@pytest.mark.parametrize(
    ("suffix", "left"),
    [
        ("wav", "half"),
        ("flac", "a header"),
        ("ogg", "all but the last bytes"),
        ("mp3", "all but the last bytes"),
    ],
)
def test_a_full_disk_is_told_in_one_sentence_and_nothing_kept(
    tmp_path: Path, suffix: str, left: str
) -> None:
    source, target = (write(tmp_path / "a.wav", 66150, channels=1), tmp_path / f"out.{suffix}")
    denoise_file(source, target, model="seed")
    whole = target.stat().st_size
    target.unlink()
    size = {"a header": 10, "half": whole // 2, "all but the last bytes": whole - 50}[left]
    command = ("file", str(source), "-o", str(target), "--model", "seed")
    run = rtden_under(size_limit(size), *command)
    assert names(tmp_path) == ["a.wav"]
    assert_one_sentence(run)
    assert str(target) in run.stderr
    assert "(File too large)" in run.stderr  # the system's reason, whatever the library says
    assert ".part" not in run.stderr


@pytest.mark.parametrize(
    ("suffix", "free_kb"), [("wav", 64), ("wav", 0), ("flac", 0), ("mp3", 0), ("m4a", 0)]
)
def test_a_full_disk_is_called_so(tmp_path: Path, suffix: str, free_kb: int) -> None:
    """On a disk of its own, which only the command sees."""
    source, disk = write(tmp_path / "a.wav", 66150), tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=128k tmpfs {disk} && "
        f"head -c {128 - free_kb}k /dev/zero > {disk}/taken && "
        f"{sys.executable} -m rtden file {source} -o {disk}/out.{suffix}; "
        f"code=$?; ls -A {disk}; exit $code"
    )
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    run = ended(command)
    if "mount" in run.stderr or "unshare" in run.stderr:
        pytest.skip("no disk can be mounted here")
    assert_one_sentence(run)
    named = "a.wav could not be made into a .m4a" if suffix == "m4a" else f"out.{suffix} c"
    assert named in run.stderr
    assert "(the disk is full); make room on the disk" in run.stderr
    assert run.stdout == "taken\n"


def test_a_disk_without_room_even_for_temporary_files_is_told_in_one_sentence(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "a.wav")
    run = rtden_under(size_limit(0), "file", str(source))
    assert names(tmp_path) == ["a.wav"]
    assert_one_sentence(run)


def test_a_disk_without_room_for_standard_input_is_told_in_one_sentence(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", 66150)
    with source.open("rb") as stdin:
        run = rtden_under(
            size_limit(20000), "file", "-", "-o", str(tmp_path / "out.wav"), stdin=stdin
        )
    assert names(tmp_path) == ["a.wav"]
    assert_one_sentence(run)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_neither_target_nor_part_and_code_130(
    tmp_path: Path, kind: signal.Signals
) -> None:
    second = np.random.default_rng(0).integers(-3000, 3000, 22050, np.int16)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 22050, 1) as file:
        for _ in range(600):
            file.write(second)
    with started([*RTDEN, "file", str(tmp_path / "long.wav")]) as process:
        until(lambda: len(names(tmp_path)) == 2 or process.poll() is not None)
        assert any(name.endswith(".part") for name in names(tmp_path))
        process.send_signal(kind)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 130
    assert names(tmp_path) == ["long.wav"]
    assert out == ""
    assert err.startswith("rtden: ")
    assert err.count("\n") == 1


def test_memory_does_not_grow_with_the_length_of_a_recording(
    tmp_path: Path, carried_model: Path
) -> None:
    rate_hz = 192000  # many bytes a minute
    part = (0.05 * np.random.default_rng(0).standard_normal(15 * rate_hz)).astype(np.float32)
    # The peak of the program alone: ru_maxrss would also hold that of the process that started it.
    code = (
        "import sys; from pathlib import Path; from rtden import Settings, denoise_file\n"
        "denoise_file(sys.argv[1], model=sys.argv[2], settings=Settings(hops_per_step=8))\n"
        "print(next(line.split()[1] for line in "
        "Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')))"
    )
    peak_mb = []
    for parts in (2, 5):  # both longer than the second pass looks ahead
        source = tmp_path / f"{parts}.wav"
        soundfile.write(source, np.tile(part, parts), rate_hz)
        command = [sys.executable, "-c", code, source, carried_model]
        run = ended(command, timeout=600, check=True)
        assert soundfile.info(default_target(source)).frames == parts * len(part)
        peak_mb.append(int(run.stdout) / 1024)
        source.unlink()
        default_target(source).unlink()
    assert peak_mb[0] > 20
    assert peak_mb[1] - peak_mb[0] < 15  # a copy of the longer one takes 55
