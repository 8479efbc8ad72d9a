"""Compare what two machines made of one recording: fail where the difference is more than int8 rounding explains.

The machines' floating-point transforms differ in their last bits. Now and then that tips an int8 value of the network's input,
which moves some gains by a step or two of 1/256; everything else is equal.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import soundfile

BOUND_DB = -40.0
"""Largest level of the difference, relative to the output."""


def main() -> None:
    """Print the difference of two recordings and leave with 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("native")
    parser.add_argument("emulated")
    arguments = parser.parse_args()
    (native, native_hz), (emulated, emulated_hz) = (soundfile.read(path, dtype="float64") for path in (arguments.native, arguments.emulated))
    if native.shape != emulated.shape or native_hz != emulated_hz:
        sys.exit(f"the recordings differ in shape or rate: {native.shape} at {native_hz} Hz, {emulated.shape} at {emulated_hz} Hz")
    difference = native - emulated
    level_db = 10.0 * np.log10(np.mean(difference**2) / np.mean(native**2) + 1e-30)
    equal = np.mean(difference == 0.0)
    print(f"{len(native)} samples, {equal:.1%} equal to the bit, largest difference {np.abs(difference).max():.2g} of full scale, ", end="")
    print(
        f"level of the difference {level_db:.0f} dB below the output's (bound {BOUND_DB:.0f} dB)".replace("-", "", 1)
        if level_db < 0
        else f"level {level_db:.0f} dB"
    )
    if level_db > BOUND_DB:
        sys.exit("the machines do not agree: their difference is more than rounding")


if __name__ == "__main__":
    main()
