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
def devices() -> None:
    """List the sound devices."""
    from rtden.errors import DeviceError
    from rtden.live.devices import list_devices

    found = list_devices()
    if not found:
        raise DeviceError(
            "this machine has no sound devices: connect one, or start the sound server (PipeWire or PulseAudio)."
        )
    table = Table("Number", "Name", "Host", "In", "Out", "Rate (Hz)", "Default", box=None)
    for device in found:
        default = ", ".join(
            name
            for name, is_default in (
                ("mic", device.is_default_input),
                ("speakers", device.is_default_output),
            )
            if is_default
        )
        table.add_row(
            str(device.index),
            device.name,
            device.host,
            str(device.inputs),
            str(device.outputs),
            str(device.rate_hz),
            default,
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
    """Look at what of this machine matters to rtden; made to be pasted into a bug report. Leaves with 2 where something fails."""
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
