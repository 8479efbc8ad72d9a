from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from command import run_python
from waiting import LIMIT_SECONDS

from rtden.live.realtime import PRIORITY, Supervisor, ask_for_realtime

RESULT = (
    "import os, threading\n"
    "from rtden.live.realtime import ask_for_realtime\n"
    "def ask(): print(ask_for_realtime(), os.sched_getscheduler(0) & "
    "~os.SCHED_RESET_ON_FORK == os.SCHED_RR, os.sched_getparam(0).sched_priority)\n"
)


def asked(preparation: str = "") -> list[str]:
    code = (
        RESULT + preparation + "t = threading.Thread(target=ask); t.start(); "
        "t.join()\nprint(os.sched_getscheduler(0) == os.SCHED_OTHER)"
    )
    return list(run_python(code).stdout.split())


def test_the_thread_has_real_time_priority_if_it_says_so_and_no_other_thread() -> None:
    allowed, has_it, priority, main_is_ordinary = asked()
    assert allowed == has_it
    assert int(priority) == (PRIORITY if allowed == "True" else 0)
    assert main_is_ordinary == "True"


def test_who_may_not_have_it_goes_on_without() -> None:
    without = (
        "import resource; "
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "if os.getuid() == 0: os.setgid(65534); "
        "os.setuid(65534)\n"
    )
    assert asked(without) == ["False", "False", "0", "True"]


def test_a_system_without_the_call_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setscheduler")
    assert ask_for_realtime() is False


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"rtden-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else str(tmp_path / "notify"))
        systemd.settimeout(LIMIT_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3600000000")
        supervisor = Supervisor()
        supervisor.ready()
        assert systemd.recv(100) == b"READY=1"
        supervisor.alive()
        supervisor.alive()  # too soon
        supervisor.stopping()
        assert [systemd.recv(100), systemd.recv(100)] == [b"WATCHDOG=1", b"STOPPING=1"]
        monkeypatch.setenv("WATCHDOG_USEC", "2")
        supervisor = Supervisor()
        for _ in range(2):
            time.sleep(0.001)
            supervisor.alive()
            assert systemd.recv(100) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", None)  # would raise
    supervisor = Supervisor()
    supervisor.ready()
    supervisor.alive()
    supervisor.stopping()


def test_memory_that_stays_lies_in_huge_pages_and_holds_what_it_held() -> None:
    code = (
        "import re, numpy as np\n"
        "from pathlib import Path\n"
        "from rtden.live.realtime import settle_memory\n"
        "held = np.arange(1 << 22)\n"
        "settle_memory()\n"
        "smaps = Path('/proc/self/smaps_rollup').read_text()\n"
        "kb = int(re.search('AnonHugePages: +([0-9]+)', smaps)[1])\n"
        "print(kb >= 24 * 1024, (held == np.arange(1 << 22)).all())"
    )
    large, unchanged = run_python(code).stdout.split()
    assert unchanged == "True"
    assert large == "True"
