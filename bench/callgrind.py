"""Count the instructions of a part of a program by valgrind's callgrind.

Valgrind emulates a processor with AVX2 and without AVX-512 and VNNI.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys


def wait_for_counting() -> None:
    """In the program: let callgrind begin to count here, where all is loaded."""
    print("ready", flush=True)
    sys.stdin.readline()


def end_counting() -> None:
    """In the program: end, without what an interpreter does at its end."""
    os._exit(0)


def instructions(*arguments: str) -> float:
    """Return the millions of instructions that a Python program executes once it is ready.

    It is started with these arguments of the interpreter, and calls the other two functions.
    """
    options = ["--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    with subprocess.Popen(
        ["valgrind", *options, sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        control = ["callgrind_control", "-i", "on", str(process.pid)]
        subprocess.run(control, check=True, capture_output=True)
        _, messages = process.communicate("\n")
    found = re.search(r"Collected : (\d+)", messages)
    if process.returncode or found is None:
        raise SystemExit(messages)
    return int(found[1]) / 1e6
