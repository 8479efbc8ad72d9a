"""List the sound devices and the shipped models; check this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from typer import Option

from rtden.app.options import screen
from rtden.errors import DeviceError


def devices(
    all_hosts: Annotated[bool, Option("--all", help="List monitors and ALSA's, too.")] = False,
) -> None:
    """List microphones and outputs; * is the default.

    'rtden live --in' and '--out' accept a number, or a part of a name.
    """
    from rtden.live.devices import DEFAULT_NAMES, list_devices

    found = list_devices(all_hosts=all_hosts)
    if not found:
        raise DeviceError(
            "this machine has no sound devices: connect one, or start the sound server "
            "(PipeWire or PulseAudio)."
        )
    table = Table("", "Name", "Number or id", "Host", "Channels", "Rate (Hz)", box=None)
    for kind, name in DEFAULT_NAMES.items():
        table.add_row("", f"{kind}s ({name}):")
        rows = table.row_count
        for device in found:
            if device.kind == kind and (all_hosts or not device.hidden):
                table.add_row(
                    "*" if device.is_default else "",
                    f"{device.name} (muted)" if device.muted else device.name,
                    device.stable_name or str(device.index),
                    device.host,
                    str(device.channels),
                    str(device.rate_hz),
                )
        if table.row_count == rows:
            table.add_row("", "none")
    screen.print(table)


def models() -> None:
    """List the shipped models."""
    from rtden.model import DEFAULT_MODEL, list_models, load_model

    table = Table("Name", "Size", "What it is", box=None)
    for name in list_models():
        model, label = load_model(name), f"{name} (default)" if name == DEFAULT_MODEL else name
        table.add_row(label, f"{len(model.content) / 1024:.0f} KiB", model.spec.description)
    screen.print(table)


def doctor() -> None:
    """Check this machine, and say what is missing.

    It takes a second: denoising is measured, too. Paste what it prints into a bug report. The exit
    code is 2 if something fails.
    """
    from rtden.app.doctor import examine

    failed = False
    for finding in examine():
        print(f"{finding.state:<5} {finding.name:<13} {finding.found}", flush=True)
        if finding.advice:
            print(f"{'':<20}-> {finding.advice}")
        failed |= finding.fails
    if failed:
        raise typer.Exit(2)
