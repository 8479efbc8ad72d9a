"""The one live engine behind the page: on, off, and what it shows. The engine itself is :func:`rtden.open_live`'s."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import RtdenError, SettingsError
from rtden.live import VIRTUAL_MICROPHONE, open_live
from rtden.live.devices import DeviceSource, list_devices
from rtden.live.endpoints import is_audio_file
from rtden.live.engine import LiveEngine
from rtden.live.saved import Choices, load_saved, save
from rtden.live.status import xruns_in_words
from rtden.model import list_models
from rtden.ring import Ring
from rtden.types import Array
from rtden.web.cleaning import WINDOW, Spectrum

SWITCHES = ("bypassed", "muted")
AT_ONCE = ("strength", "limit_db", *SWITCHES)
"""What changes while the sound runs; anything else takes a new start."""


class BusyError(RtdenError):
    """Live sound runs already."""


class LiveControl:
    """Live sound for all visitors together. Any thread may call."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._engine: LiveEngine | None = None
        self._spectra: list[Spectrum] = []
        self.recording: Path | None = None
        """Folder of the last recording of both sides."""
        self.error: str | None = None
        """Why live sound ended by itself."""
        try:
            self.choices = load_saved()
        except SettingsError as error:
            self.choices, self.error = Choices(), str(error)

    def change(self, on: bool | None, changes: dict[str, Any], *, restart: bool = False) -> None:
        """Switch live sound on or off, and change choices.

        Raises
        ------
        BusyError
            If it runs already, and would have to start anew, without `restart`.
        RtdenError
            If it cannot start.
        """
        with self.lock:
            self._look_whether_it_ended()
            switches = {name: changes.pop(name) for name in SWITCHES if name in changes}
            if any(not isinstance(value, bool) for value in switches.values()):
                raise SettingsError(f"{' and '.join(SWITCHES)} must be true or false.")
            choices, engine = self.choices.replaced(changes), self._engine
            _check_names(choices)
            anew = on or any(
                getattr(choices, name) != getattr(self.choices, name)
                for name in set(changes) - set(AT_ONCE)
            )
            if engine is not None and on is not False and anew and not restart:
                raise BusyError(
                    f"live sound runs already, from {engine.input_name} to {engine.output_name}; "
                    "switch it off first."
                )
            self.choices = choices
            if changes:
                self._remember()
            if engine is not None and (on is False or anew):
                self._stop()
            if on or (engine is not None and anew and on is None):
                self._start()
            if self._engine is not None:
                self._apply(self._engine, switches)

    @property
    def on(self) -> bool:
        """Whether live sound runs."""
        return self._engine is not None

    def _remember(self) -> None:
        try:
            save(self.choices)
        except (OSError, RtdenError) as error:
            self.error = f"the choices could not be saved ({error})."

    def _start(self) -> None:
        choices, self.error = self.choices, None
        folder = _recording_folder() if choices.record else None
        engine = open_live(
            choices.input,
            choices.output,
            model=choices.model,
            settings=choices.settings(),
            latency_ms=choices.latency_ms,
            stereo=choices.stereo,
            record=folder,
        )
        try:
            engine.start()
        except BaseException:
            engine.stop()
            raise
        self.recording = folder or self.recording
        self._spectra = [Spectrum(side.rate_hz) for side in (engine.source, engine.sink)]
        self._engine = engine

    def _apply(self, engine: LiveEngine, switches: dict[str, bool]) -> None:
        settings = self.choices.settings()
        engine.strength, engine.limit_db = settings.strength, settings.limit_db
        for name, value in switches.items():
            setattr(engine, name, value)

    def _stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()

    def _look_whether_it_ended(self) -> None:
        if self._engine is None:
            return
        try:
            if self._engine.running:
                return
        except RtdenError as error:
            self.error = str(error)
        self._stop()

    def close(self) -> None:
        """End live sound."""
        with self.lock:
            self._stop()

    def state(self, *, full: bool = True) -> dict[str, Any]:
        """Return whether it runs, the choices and the engine's status, for JSON.

        Levels and load are those since the last call, whoever made it.
        """
        with self.lock:
            self._look_whether_it_ended()
            engine = self._engine
            known: dict[str, Any] = {
                "on": engine is not None,
                "error": self.error,
                "choices": self.choices.to_dict(),
                "recording": None if self.recording is None else str(self.recording),
            }
            if engine is None:
                return known
            status = engine.status()
            return known | {
                "input": engine.input_name,
                "output": engine.output_name,
                "virtual": self.choices.output == VIRTUAL_MICROPHONE,
                "bypassed": engine.bypassed,
                "muted": engine.muted,
                "status": status.to_dict() | {"xruns_in_words": xruns_in_words(status)},
                "latency": engine.latency.to_dict(),
            }

    def spectra(self) -> bytes | None:
        """Return the newest spectrum of the input and of the output, a byte per band, or None.

        They are read from the engine's rings, whose memory keeps what has been played: the
        engine's threads do nothing for it. A block that is being written meanwhile blurs a column.
        """
        engine = self._engine
        if engine is None:
            return None
        rings = engine.source.ring, engine.sink.ring
        return b"".join(
            spectrum.shades(spectrum.power(_newest(ring)[None]))
            for spectrum, ring in zip(self._spectra, rings, strict=True)
        )


def _check_names(choices: Choices) -> None:
    """Refuse what would name a file: a visitor may choose among devices and models only."""
    for name in (choices.input, choices.output):
        if name is not None and is_audio_file(name):
            raise SettingsError("live sound takes devices here, not files; see Recordings.")
    if choices.model is not None and choices.model not in list_models():
        raise SettingsError(f"there is no model {choices.model!r}; see 'rtden models'.")


def _newest(ring: Ring) -> Array:
    """Return the newest `WINDOW` samples of a ring, as one channel."""
    end = ring.written_samples
    samples = ring.view(max(0, end - WINDOW), end).mean(axis=1)
    return np.pad(samples, (WINDOW - len(samples), 0))


def _recording_folder() -> Path:
    from platformdirs import user_music_path

    return user_music_path() / "rtden" / time.strftime("%Y-%m-%d %H.%M.%S")


def list_sides(live: LiveControl) -> dict[str, Any]:
    """Return the inputs and outputs that there are now, for JSON."""
    with live.lock:
        if not live.on:
            DeviceSource.look_anew()
        devices = list_devices()
    return {
        kind + "s": [
            {
                "name": device.name,
                "label": device.name,
                "default": getattr(device, f"is_default_{kind}"),
            }
            for device in devices
            if device.channels(kind)
        ]
        for kind in ("input", "output")
    }
