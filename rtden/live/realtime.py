"""A process that handles sound: its priority, its memory, and systemd's watchdog."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import socket
import time
from pathlib import Path

PRIORITY = 10  # above ordinary threads, below those of a sound server (PipeWire: 88) and the kernel
_COLLAPSE = 25  # MADV_COLLAPSE, since Linux 6.1
_AREA = re.compile(r"(\w+)-(\w+) rw\S* \S+ 00:00 0 .*\n(?:\w+:.*\n)*?Rss: +(\d+) kB")


def ask_for_realtime() -> bool:
    """Give the calling thread real-time priority if the system allows; return whether it did."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    try:
        # Children, such as a program started by a library, must not inherit it.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except OSError:
        return False
    return True


def settle_memory() -> None:
    """Prepare the process for hours of short turns: most of what lives now lives until it ends.

    Garbage collections no longer search that. On Linux it moves into huge pages: after each pause
    the processor looks up fewer addresses anew. Not for a library: it changes the whole process.
    """
    gc.collect()
    gc.freeze()
    size_file = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    if not size_file.exists():
        return
    madvise, size = ctypes.CDLL(None).madvise, int(size_file.read_text(encoding="ascii"))
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    areas = _AREA.findall(Path("/proc/self/smaps").read_text(encoding="utf-8"))
    for begin, end, resident_kb in areas:
        first, last = -(-int(begin, 16) // size) * size, int(end, 16) // size * size
        # Not where little is used, such as the stacks of threads.
        if 0 < last - first < 2048 * int(resident_kb):
            madvise(first, last - first, _COLLAPSE)


class Supervisor:
    """Reports to systemd that a service is ready and alive (sd_notify), if systemd asks."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.get("WATCHDOG_USEC", "")
        # Twice in each span, as systemd advises.
        self._interval_seconds = int(watchdog_us) / 2e6 if watchdog_us.isdecimal() else float("inf")
        self._due_at = time.monotonic()

    def ready(self) -> None:
        """Say that the service does its work from now on."""
        self._send("READY=1")

    def alive(self) -> None:
        """Say that it still does; may be called at any rate."""
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + self._interval_seconds
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is in Linux's abstract namespace, whose names begin with a
        # zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.sendall(message.encode())
