from __future__ import annotations

import os

import pytest
from command import run_python

from rtden.quiet import quiet_stderr


def test_c_libraries_are_silenced_inside_and_heard_again_after() -> None:
    code = (
        "import os\nfrom rtden.quiet import quiet_stderr\nos.write(2, b'before ')\n"
        "with quiet_stderr():\n    os.write(2, b'inside ')\nos.write(2, b'after')\n"
    )
    assert run_python(code).stderr == "before after"


def test_no_descriptor_is_leaked_even_by_an_error() -> None:
    def in_error() -> None:
        with quiet_stderr():
            raise ValueError

    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(ValueError, match=r"^$"):
            in_error()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_program_without_standard_error_goes_on() -> None:
    code = (
        "import os\nfrom rtden.quiet import quiet_stderr\nos.close(2)\n"
        "with quiet_stderr():\n    print('inside')\n"
    )
    assert run_python(code).stdout == "inside\n"


def test_threads_that_silence_at_a_time_are_heard_again() -> None:
    code = (
        "import os, threading, time\nfrom rtden.quiet import quiet_stderr\n"
        "def work():\n    for _ in range(50):\n        with quiet_stderr():\n            "
        "time.sleep(0.0002)\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n[thread.join() for thread in "
        "threads]\nos.write(2, b'heard')\n"
    )
    assert run_python(code).stderr == "heard"


@pytest.mark.parametrize(
    "prepared", ["", "from rtden.live.devices import load_portaudio\nload_portaudio()\n"]
)
def test_alsa_reports_nothing_once_portaudio_is_loaded(prepared: str) -> None:
    code = (
        "import ctypes\nctypes.CDLL('libasound.so.2')"
        ".snd_pcm_open(ctypes.byref(ctypes.c_void_p()), b'no such device', 0, 0)"
    )
    heard = run_python(prepared + code).stderr
    assert ("Unknown PCM" in heard) == (not prepared), heard


def test_standard_error_can_be_left_to_python() -> None:
    code = (
        "import os, sys\nfrom rtden.app.options import messages, silence_c_libraries\n"
        "silence_c_libraries()\nos.write(2, b'of C ')\nmessages.print('of Python')\n"
        "sys.stderr = None\nsilence_c_libraries()\n"
    )
    assert run_python(code).stderr == "of Python\n"
