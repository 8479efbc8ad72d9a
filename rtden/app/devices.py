"""List the sound devices; look at what of this machine matters."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from rtden.app.options import (
    one_sentence,
    screen,
)


@one_sentence
def devices(
    all_hosts: Annotated[
        bool,
        typer.Option("--all", help="List monitors, rtden's own devices and ALSA's devices, too."),
    ] = False,
) -> None:
    """List microphones and outputs; --in and --out accept a part of a name, * is the default."""
    from rtden.errors import DeviceError
    from rtden.live.devices import DEFAULT_NAMES, list_devices

    found = list_devices(all_hosts=all_hosts)
    if not found:
        raise DeviceError(
            "this machine has no sound devices: connect one, or start the sound server "
            "(PipeWire or PulseAudio)."
        )
    table = Table("", "Number", "Name", "Stable name", "Host", "Channels", "Rate (Hz)", box=None)
    for kind, name in DEFAULT_NAMES.items():
        table.add_row("", "", f"{kind}s ({name}):")
        for device in found:
            hidden = device.server and device.server.hidden
            if device.channels(kind) and (all_hosts or not hidden):
                table.add_row(
                    "*" if device.is_default(kind) else "",
                    "" if device.server else str(device.index),
                    f"{device.name} (muted)"
                    if device.server and device.server.muted
                    else device.name,
                    device.server.name if device.server else "",
                    device.host,
                    str(device.channels(kind)),
                    str(device.rate_hz),
                )
    screen.print(table)


@one_sentence
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    with_benchmark: Annotated[
        bool,
        typer.Option(
            "--benchmark/--no-benchmark", help="Measure for a second what denoising costs."
        ),
    ] = True,
) -> None:
    """Check this machine, for a bug report; the exit code is 2 if something fails."""
    from rtden.app.doctor import examine, to_report

    findings = []
    for finding in examine(with_benchmark=with_benchmark):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:<5} {finding.name:<13} {finding.found}", flush=True)
            if finding.advice:
                print(f"{'':<20}-> {finding.advice}")
    if as_json:
        print(json.dumps(to_report(findings), indent=2, ensure_ascii=False))
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(2)
