"""The command line: its commands, and what they share before any of them runs."""

from __future__ import annotations

import os
import signal
from importlib.metadata import version
from typing import Annotated

import typer

from rtden.app import control, devices, files, live, measure, service, training, web
from rtden.app.options import screen

# One small matrix product a step: threads of numpy's linear algebra would only spin. Read once,
# when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

app = typer.Typer(
    help="rtden, a streaming real-time speech denoiser.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        screen.print(f"rtden {version('rtden')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    for ending in ("SIGTERM", "SIGHUP"):  # a closed terminal; end as tidily as on Ctrl-C
        if (
            hasattr(signal, ending) and signal.getsignal(getattr(signal, ending)) != signal.SIG_IGN
        ):  # as nohup leaves it
            signal.signal(getattr(signal, ending), signal.default_int_handler)


for command in (
    files.file,
    files.pipe,
    live.live,
    control.ctl,
    web.ui,
    measure.plot,
    devices.devices,
    devices.models,
    devices.doctor,
    measure.bench,
):
    app.command()(command)
app.command("eval")(measure.evaluate)
app.command()(training.train)
app.command()(training.export)
app.add_typer(service.service, name="service")
