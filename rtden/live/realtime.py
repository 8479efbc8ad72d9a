"""Real-time priority for a process that handles sound, and systemd's watchdog."""

from __future__ import annotations

import os
import socket
import time

PRIORITY = 10
"""Above every ordinary thread, below those of a sound server (PipeWire: 88) and of the kernel."""


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
