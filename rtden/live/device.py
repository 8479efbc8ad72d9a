"""A sound device, of the sound server or of PortAudio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["input", "output"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One direction of a sound device. Fields after `is_default` are the sound server's alone."""

    kind: Kind
    index: int  # PortAudio's or the server's number, another after it was unplugged
    name: str
    host: str
    channels: int
    rate_hz: int
    is_default: bool = False  # the system uses it where no device is named
    stable_name: str = ""  # the same after it was unplugged; empty for PortAudio's
    muted: bool = False
    monitor_of: str = ""  # stable name of the sink that this source is the monitor of, or empty
    own: bool = False  # made by an rtden

    @property
    def hidden(self) -> bool:
        """Whether lists leave it out: monitors, and what an rtden made."""
        return self.own or bool(self.monitor_of)

    @property
    def names(self) -> tuple[str, ...]:
        """Names that a user may give: the description and the stable name."""
        return (self.name, self.stable_name) if self.stable_name else (self.name,)

    def __str__(self) -> str:
        if self.stable_name:
            return f"{self.name} [{self.stable_name}]"
        return f"[{self.index}] {self.name} ({self.host})"
