"""`rtden` and `python -m rtden`."""

import signal


def main() -> None:
    """Run the command line; an interrupt while it loads ends the process without a traceback."""
    loud = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if loud:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Here, not above: the processes that work for a command import this file, and need none of it.
    from rtden.app.main import app

    if loud:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app(prog_name="rtden")


if __name__ == "__main__":
    main()
