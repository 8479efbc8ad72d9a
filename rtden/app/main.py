"""The command line: its commands, and what happens before each of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rtden.app import devices, files, live, measure, service, training, web
from rtden.app.options import one_sentence, printable, screen

# One small matrix product a step: threads of numpy's linear algebra would only spin. Read once,
# when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class Commands(TyperGroup):
    """The commands: their errors are sentences, and a file's name in place of one gets advice."""

    make_context = one_sentence()(TyperGroup.make_context)  # prints the help and the version
    invoke = one_sentence()(TyperGroup.invoke)

    def resolve_command(self, context: Any, words: list[str]) -> Any:
        """Return the command, or fail with the line to type if a file is named in its place."""
        if words[0] not in self.commands and os.path.exists(words[0]):
            name = printable(words[0])
            context.fail(f"'{name}' is no command. Denoise it by: rtden file {shlex.quote(name)}")
        return super().resolve_command(context, words)


app = typer.Typer(
    cls=Commands,
    help="Remove noise from speech: from a microphone, in calls, in files.",
    epilog="Begin with 'rtden live', with headphones on, or with 'rtden file talk.wav'.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow

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
    for name in ("SIGTERM", "SIGHUP"):  # a closed terminal; end as tidily as on Ctrl-C
        ending = getattr(signal, name, None)
        if ending and signal.getsignal(ending) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(ending, signal.default_int_handler)
    with contextlib.suppress(AttributeError):  # it is closed
        # A legacy encoding may lack letters of a device's or a file's name.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if os.name == "posix":  # some programs start others with pipes that do not block
        for descriptor in (0, 1, 2):
            with contextlib.suppress(OSError):  # closed
                os.set_blocking(descriptor, True)


for command in (
    live.live,
    devices.devices,
    files.file,
    web.ui,
    devices.doctor,
    live.ctl,
    files.pipe,
    measure.plot,
    devices.models,
    measure.bench,
):
    app.command()(command)
app.command("eval")(measure.evaluate)
app.command()(training.train)
app.command()(training.export)
app.add_typer(service.service, name="service")
