"""Checks of samples from outside: format, scale, rate and absurd values."""

from __future__ import annotations

import functools
import numbers
from typing import Any

import numpy as np

from rtden.errors import InputError
from rtden.types import Array

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192000
MOST_CHANNELS = 64
FULL_SCALE = {"int16": 32768.0, "int32": 2147483648.0}
"""Full scale of the integer formats; that of floating point is 1."""
ABSURD_LEVEL = 1000.0
"""Samples above this (60 dB above full scale) come from a corrupt stream: they become silence."""
INTEGER_LEVEL = 32.0
"""If most samples are above this (30 dB above full scale), they are integers, not +-1."""
FEWEST_SAMPLES = 16
"""Shorter blocks are not checked for that."""


def check_rate(rate_hz: Any) -> int:
    """Return a sample rate as an int; InputError if rtden does not take it."""
    whole = _whole(rate_hz)
    if whole is None:
        raise InputError(f"a sample rate is a whole number of Hz, not {rate_hz!r}.")
    if not LOWEST_RATE_HZ <= whole <= HIGHEST_RATE_HZ:
        advice = "give Hz, not kHz" if whole <= 192 else "resample the sound first"
        raise InputError(
            f"a sample rate of {whole} Hz is outside {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz; "
            f"{advice}."
        )
    return whole


def check_channels(channels: Any) -> int:
    """Return a number of channels as an int; InputError if rtden does not take it."""
    whole = _whole(channels)
    if whole is None or not 1 <= whole <= MOST_CHANNELS:
        raise InputError(
            f"rtden takes 1 to {MOST_CHANNELS} channels, not {channels!r}; split the sound, or "
            "pass samples.T if yours is (channels, samples)."
        )
    return whole


def _whole(value: Any) -> int | None:
    """Return a number without a fraction as an int, and None for anything else."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    number: Any = value
    try:
        return int(number) if number == int(number) else None
    except (OverflowError, ValueError):  # infinite, or not a number
        return None


def as_array(samples: Any) -> Any:
    """Return samples as an array; InputError if they cannot be one, such as bytes or a path."""
    if isinstance(samples, np.ndarray) and samples.ndim:
        return samples
    try:
        array = None if isinstance(samples, (bytes, bytearray)) else np.asarray(samples)
    except ValueError:
        raise InputError(
            "samples are an array; these are lists of several lengths, or samples and a rate: "
            "pass the samples alone."
        ) from None
    except (TypeError, RuntimeError) as error:  # a tensor with gradients, or of another device
        raise InputError(f"samples are an array; these cannot become one: {error}") from None
    if array is None or array.ndim == 0:
        raise InputError(
            f"samples are an array, not {type(samples).__name__}; np.frombuffer makes one of "
            "bytes, and rtden.denoise_file takes files."
        )
    return array


def floating(samples: Any) -> Any:
    """Return samples as an array of floating point; InputError for others: of unknown scale."""
    block = as_array(samples)
    if block.dtype.kind != "f":
        given = block.dtype if block.dtype.kind in "iubc" else type(samples).__name__
        raise InputError(
            f"feed takes floating-point samples with full scale +-1, not {given}; "
            "divide integers by their full scale (32768 for int16)."
        )
    return block


def finite(samples: Any) -> Array:
    """Return floating-point samples in float32; those that are not finite, or absurd, become 0.

    Raises InputError if most are as large as integers: their scale is not +-1.
    """
    if samples.dtype == np.float32 and np.vdot(samples, samples) <= ABSURD_LEVEL**2:
        return samples  # type: ignore[no-any-return]
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.abs(samples.reshape(-1))
        integers = (sizes > INTEGER_LEVEL) & (sizes < 2.0**32)
        if 2 * np.count_nonzero(integers) > len(sizes) >= FEWEST_SAMPLES:
            raise InputError(
                f"samples reach {sizes[integers].max():.0f}, but full scale is +-1; "
                "divide those of integers by their full scale (32768 for int16)."
            )
        sound = np.where(np.abs(samples) <= ABSURD_LEVEL, samples, 0.0)  # not a number is not less
    return sound.astype(np.float32)


@functools.cache
def _full_scale(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return 1.0
    if dtype.name not in FULL_SCALE:
        raise InputError(
            f"samples are int16, int32 or floating point, not {dtype}; convert them to one of "
            "these, at its full scale."
        )
    return FULL_SCALE[dtype.name]


def to_float(samples: Any) -> Array:
    """Return int16, int32 or floating-point samples with full scale +-1, same shape."""
    scale = _full_scale(samples.dtype)
    if scale == 1.0:
        return samples  # type: ignore[no-any-return]
    scaled: Array = np.multiply(samples, np.float32(1.0 / scale), dtype=np.float32)
    return scaled


def from_float(samples: Array, dtype: np.dtype[Any]) -> Any:
    """Return floating-point samples in another format, rounded; too large ones saturate."""
    scale = _full_scale(dtype)
    if scale == 1.0:
        return samples.astype(dtype)
    # float32 has no 2**31 - 1: what rounds to 2**31 would wrap around.
    numbers = np.multiply(samples, scale, dtype=np.float64 if scale > 1e6 else np.float32)
    np.rint(numbers, numbers)
    return numbers.clip(-scale, scale - 1.0, numbers).astype(dtype)
