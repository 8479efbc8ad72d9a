"""Declarations of libpulse, the client library of PulseAudio, for ctypes; PipeWire answers it, too.

ctypes and not a package: rtden needs twenty of its functions, and whoever has a sound server has
the library.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from rtden.errors import DeviceError

STATE = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
NUMBER = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
REQUEST = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)
EVENT = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_uint32, c_void_p)


class Handle(c_void_p):
    """A pointer that stays one: ctypes makes numbers of plain c_void_p results, and cuts them."""


class SampleSpec(ctypes.Structure):
    """pa_sample_spec."""

    _fields_ = (("format", c_int), ("rate", c_uint32), ("channels", c_uint8))


class BufferAttributes(ctypes.Structure):
    """pa_buffer_attr."""

    _fields_ = tuple((name, c_uint32) for name in ("max", "target", "prebuffer", "least", "block"))


class _ChannelMap(ctypes.Structure):
    _fields_ = (("channels", c_uint8), ("map", c_int * 32))


class _Volume(ctypes.Structure):
    _fields_ = (("channels", c_uint8), ("values", c_uint32 * 32))


class DeviceInfo(ctypes.Structure):
    """The beginning of pa_sink_info and pa_source_info, which is the same in both."""

    _fields_ = (
        *(("name", c_char_p), ("index", c_uint32), ("description", c_char_p)),
        *(("spec", SampleSpec), ("map", _ChannelMap), ("owner_module", c_uint32)),
        *(("volume", _Volume), ("mute", c_int), ("monitor_index", c_uint32)),
        *(("monitor_name", c_char_p), ("latency", c_uint64), ("driver", c_char_p)),
        *(("flags", c_int), ("properties", Handle)),
    )


class ServerInfo(ctypes.Structure):
    """The beginning of pa_server_info."""

    _fields_ = (
        *((name, c_char_p) for name in ("user", "host", "version", "name")),
        ("spec", SampleSpec),
        *((name, c_char_p) for name in ("default_sink", "default_source")),
    )


class ModuleInfo(ctypes.Structure):
    """The beginning of pa_module_info."""

    _fields_ = (("index", c_uint32), ("name", c_char_p), ("argument", c_char_p))


class SinkInputInfo(ctypes.Structure):
    """The beginning of pa_sink_input_info."""

    _fields_ = (
        *(("index", c_uint32), ("name", c_char_p)),
        *((name, c_uint32) for name in ("owner_module", "client", "sink")),
    )


SERVER = ctypes.CFUNCTYPE(None, c_void_p, POINTER(ServerInfo), c_void_p)
DEVICES, MODULES, SINK_INPUTS = (
    ctypes.CFUNCTYPE(None, c_void_p, POINTER(info), c_int, c_void_p)
    for info in (DeviceInfo, ModuleInfo, SinkInputInfo)
)

_RETURN_HANDLES = (
    *("threaded_mainloop_new", "threaded_mainloop_get_api", "context_new", "proplist_new"),
    *("context_get_server_info", "context_get_sink_info_list", "context_get_source_info_list"),
    *("context_get_module_info_list", "context_get_sink_input_info", "context_load_module"),
    *("context_unload_module", "context_set_default_sink", "context_suspend_sink_by_name"),
    *("context_subscribe", "context_move_sink_input_by_name", "stream_new_with_proplist"),
    "stream_cork",
)


@cache
def load_libpulse() -> Any:
    """Load and return libpulse; raises DeviceError if it is missing."""
    try:
        lib = ctypes.CDLL("libpulse.so.0")
    except OSError:
        raise DeviceError("libpulse is missing: run 'sudo apt install libpulse0'.") from None
    for name in _RETURN_HANDLES:
        getattr(lib, f"pa_{name}").restype = Handle
    lib.pa_strerror.restype = lib.pa_proplist_gets.restype = c_char_p
    lib.pa_stream_get_index.restype = c_uint32
    return lib


@cache
def load_quick_libpulse() -> Any:
    """Load and return libpulse for calls in its own callbacks that never wait.

    They keep the interpreter's lock: beside a busy Python thread each call would wait 5 ms for it.
    """
    return ctypes.PyDLL("libpulse.so.0")


_view_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_view_memory.argtypes, _view_memory.restype = (c_void_p, ctypes.c_ssize_t, c_int), ctypes.py_object
_READ = 0x100


def view_memory(address: int, size: int) -> memoryview:
    """Return bytes at an address, to be read before they go; faster than an array of ctypes."""
    return _view_memory(address, size, _READ)  # type: ignore[no-any-return]
