"""Remove noise from speech, live and in recordings.

- denoise: an array in one call
- FrameDenoiser: a frame in, a frame out, as voice agents need it
- StreamDenoiser: blocks of any length, rate and number of channels
- Denoiser: the algorithm itself, mono at the model's rate
- denoise_file: sound and video files
- open_live: microphone to loudspeakers
- Settings: strength, limit and steps; list_models; errors: what is raised
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtden.denoiser import Denoiser as Denoiser
    from rtden.files.denoise import denoise_file as denoise_file
    from rtden.frames import FrameDenoiser as FrameDenoiser
    from rtden.frames import denoise as denoise
    from rtden.live import open_live as open_live
    from rtden.model import list_models as list_models
    from rtden.settings import Settings as Settings
    from rtden.stream import StreamDenoiser as StreamDenoiser

_HOMES = {
    "Denoiser": "denoiser",
    "FrameDenoiser": "frames",
    "Settings": "settings",
    "StreamDenoiser": "stream",
    "denoise": "frames",
    "denoise_file": "files.denoise",
    "list_models": "model",
    "open_live": "live",
}
__all__ = [*_HOMES]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: a command that needs no numpy starts without it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("rtden")
    if name == "errors":
        return importlib.import_module("rtden.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'rtden' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(f"rtden.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
