"""rtden: a streaming real-time speech denoiser."""

from rtden.denoiser import Denoiser
from rtden.files import denoise_file
from rtden.settings import Settings
from rtden.sidecar import list_models
from rtden.stream import StreamDenoiser

__all__ = ["Denoiser", "Settings", "StreamDenoiser", "denoise_file", "list_models"]
