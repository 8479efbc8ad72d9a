from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from command import ended

from rtden.files.processes import cores, in_processes


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def die_once(path: Path) -> str:
    if path.exists():
        return path.name
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_where_told(path: Path) -> str:
    if path.name == "fatal":
        os._exit(3)
    return path.name


def wait(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_task_is_done_once_by_no_more_processes_than_asked_for() -> None:
    found = list(in_processes(square, range(40), 3))
    assert sorted((task, result[0]) for task, result in found if result) == [
        (number, number**2) for number in range(40)
    ]
    assert 1 <= len({result[1] for _, result in found if result} - {os.getpid()}) <= 3
    assert cores() >= 1
    assert list(in_processes(square, [], 2)) == []


def test_a_task_whose_process_died_is_done_again(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(6)]
    for path in paths[1:5]:
        path.touch()
    assert sorted(in_processes(die_once, paths, 2)) == [(path, path.name) for path in paths]


def test_a_task_that_ends_every_process_has_no_result_and_the_others_have(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "fatal", "c", "d")]
    found = list(in_processes(die_where_told, paths, 2))
    assert [task for task, result in found if result is None] == [tmp_path / "fatal"]
    assert sorted(result for _, result in found if result) == ["a", "b", "c", "d"]


def test_processes_end_when_nobody_waits_for_them(tmp_path: Path) -> None:
    found = in_processes(
        die_where_told, [tmp_path / "quick", *(tmp_path / str(number) for number in range(20))], 2
    )
    next(found)
    found.close()
    code = (
        "import os, signal, sys, threading; from pathlib import Path; "
        "sys.path[:0] = sys.argv[2:]; import test_processes as tests\n"
        # A shell may have made it deaf.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "folder = Path(sys.argv[1])\n"
        "def interrupt():\n"
        "    import time\n"
        "    while len([p for p in folder.iterdir() if p.read_text()]) < 2: time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt).start()\n"
        "try: list(tests.in_processes(tests.wait, [folder / 'a', folder / 'b', folder / 'c'], 2))\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    paths = (Path(__file__).parent, Path(__file__).parents[1] / "support")
    done = ended([sys.executable, "-c", code, tmp_path, *paths], check=True)
    assert done.stdout == "interrupted\n"
    assert done.stderr == ""
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_a_script_that_does_not_guard_its_call_is_told_and_does_not_go_on_for_ever(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from rtden.files.processes import in_processes\n"
        "print(list(in_processes(abs, [1, 2], 2)))\n",
        encoding="utf-8",
    )
    done = ended([sys.executable, script])
    assert done.returncode == 1
    assert done.stdout == ""
    assert "RtdenError: processes to work in cannot be started here" in done.stderr


def test_an_interrupt_meant_for_everybody_leaves_them_to_their_starter() -> None:
    found = in_processes(square, range(50), 2)
    _, result = next(found)
    assert result
    os.kill(result[1], signal.SIGINT)
    assert len(list(found)) == 49
