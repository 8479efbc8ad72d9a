"""The one live engine behind the page: on, off, settings, status."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_music_path

from rtden.errors import ControlError, RtdenError, SettingsError
from rtden.live import VIRTUAL_MICROPHONE, open_live
from rtden.live.control import ControlServer
from rtden.live.devices import DEFAULT_NAMES, list_devices, look_anew
from rtden.live.engine import LiveEngine
from rtden.live.file_endpoints import is_audio_file
from rtden.live.status import LiveStatus, xruns_in_words
from rtden.measure.plots import WINDOW
from rtden.model import list_models
from rtden.web.choices import DEFAULTS, changed, load_choices, save_choices, settings_of
from rtden.web.cleaning import shades

FLAGS = ("on", "restart", "bypassed", "muted")
SETTINGS = {"strength", "limit_db"}  # change while it runs; any other choice takes a new start
OPENED = ("input", "output", "model", "latency_ms", "stereo")  # choices that open_live takes
FRESH_SECONDS = 0.4  # visitors share a status this long: reading one resets its levels


class BusyError(RtdenError):
    """It is in use, or not ready."""


class UnknownError(RtdenError):
    """There is nothing of that name."""


class LiveControl:
    """Live sound for all visitors together; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._engine: LiveEngine | None = None
        self._status: LiveStatus | None = None
        self._read_at = 0.0
        self.recording: Path | None = None  # the folder of the last one
        try:
            self._choices, self._error = load_choices(), ""
        except SettingsError as error:
            self._choices, self._error = DEFAULTS, str(error)

    def change(self, changes: dict[str, Any]) -> None:
        """Change choices (:data:`rtden.web.choices.DEFAULTS`), which are saved, or set `FLAGS`.

        Raises BusyError if it runs, and would have to start anew, without the flag `restart`.
        """
        flags = {name: changes.pop(name) for name in FLAGS if name in changes}
        if not all(isinstance(value, bool) for value in flags.values()):
            raise SettingsError(f"{', '.join(FLAGS)} must be true or false.")
        with self._lock:
            self._notice_end()
            before, engine = self._choices, self._engine
            choices = changed(before, changes)
            _check_names(choices)
            on = flags.get("on")  # None: as it is
            anew = {name for name in changes if changes[name] != before[name]} - SETTINGS
            restarts = bool(engine and on is not False and (on or anew))
            if engine and restarts and not flags.get("restart"):
                route = f"from {engine.input_name} to {engine.output_name}"
                raise BusyError(f"live sound runs already, {route}; switch it off first.")
            self._choices = choices
            try:
                if changes:
                    save_choices(choices)
            except RtdenError as error:
                self._error = f"the choices could not be saved: {error}"
            if restarts or on is False:
                self.close()
            if restarts or on:
                self._start()
            if self._engine is not None:
                settings = settings_of(choices)
                self._engine.strength, self._engine.limit_db = settings.strength, settings.limit_db
                self._engine.bypassed = flags.get("bypassed", self._engine.bypassed)
                self._engine.muted = flags.get("muted", self._engine.muted)

    def _start(self) -> None:
        folder = user_music_path() / "rtden" / time.strftime("%Y-%m-%d %H.%M.%S")
        self._error, record = "", folder if self._choices["record"] else None
        opened = {name: self._choices[name] for name in OPENED}
        engine = open_live(**opened, settings=settings_of(self._choices), record=record)
        try:
            with suppress(ControlError):  # the page itself controls it, too
                engine.resources.enter_context(ControlServer(engine))
            engine.start()
        except BaseException:
            engine.stop()
            raise
        self.recording = record or self.recording
        self._engine, self._status = engine, None

    def _notice_end(self) -> None:
        try:
            if self._engine is None or self._engine.running:
                return
        except RtdenError as error:
            self._error = str(error)
        self.close()

    def close(self) -> None:
        """End live sound."""
        with self._lock:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.stop()

    def state(self) -> dict[str, Any]:
        """Return whether it runs, the choices and the engine's status, for JSON."""
        with self._lock:
            self._notice_end()
            engine = self._engine
            known: dict[str, Any] = {
                "on": engine is not None,
                "error": self._error or None,
                "choices": self._choices,
                "recording": self.recording and str(self.recording),
            }
            if engine is None:
                return known
            if self._status is None or time.monotonic() > self._read_at + FRESH_SECONDS:
                self._read_at, self._status = time.monotonic(), engine.status()
            status = self._status
            return known | {
                "input": engine.input_name,
                "output": engine.output_name,
                "virtual": self._choices["output"] == VIRTUAL_MICROPHONE,
                "bypassed": engine.bypassed,
                "muted": engine.muted,
                "status": status.to_dict() | {"xruns_in_words": xruns_in_words(status)},
                "latency": engine.latency.to_dict(),
            }

    def look(self) -> bytes | None:
        """Return bytes of the newest level and of each band, from the input's and output's ring."""
        engine = self._engine
        if engine is None:
            return None
        seen = b""
        for side in (engine.source, engine.sink):
            end = side.ring.written_samples
            newest = side.ring.view(max(0, end - WINDOW), end)
            power = float(np.square(newest).mean()) if len(newest) else 0.0
            level = round(255.0 * min(1.0, max(0.0, 1.0 + math.log10(power + 1e-12) / 6.0)))
            seen += bytes([level]) + shades(newest.mean(axis=1), side.rate_hz)
        return seen

    def devices(self) -> dict[str, Any]:
        """Return the inputs and outputs that there are now, for JSON."""
        with self._lock:
            found = list_devices()
            if self._engine is None and not any(device.stable_name for device in found):
                look_anew()
                found = list_devices()
        return {
            f"{kind}s": [
                {"name": one.names[-1], "label": one.name, "default": one.is_default}
                for one in found
                if one.kind == kind and not one.hidden
            ]
            for kind in DEFAULT_NAMES
        }


def _check_names(choices: dict[str, Any]) -> None:
    """Refuse what would name a file: a visitor chooses among devices and models only."""
    if any(is_audio_file(choices[side] or "") for side in ("input", "output")):
        raise SettingsError("live sound takes devices here, not files.")
    model = choices["model"]
    if model is not None and model not in list_models():
        raise UnknownError(f"there is no model {model!r}; see 'rtden models'.")
