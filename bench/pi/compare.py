"""Compare two machines' outputs for one file; fail if they differ by more than int8 rounding.

The machines' floating-point transforms differ in their last bits. Now and then that tips an int8
value of the network's input, which moves some gains by a step or two of 1/256; everything else is
equal.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import soundfile


def main() -> None:
    """Print the difference of two recordings and leave with 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("native")
    parser.add_argument("emulated")
    parser.add_argument(
        "--bound-db",
        type=float,
        required=True,
        help="largest level of the difference, relative to the output",
    )
    arguments = parser.parse_args()
    (native, native_hz), (emulated, emulated_hz) = (
        soundfile.read(path, dtype="float64") for path in (arguments.native, arguments.emulated)
    )
    if native.shape != emulated.shape or native_hz != emulated_hz:
        sys.exit(
            f"the files differ in shape or rate: {native.shape} at {native_hz} Hz, "
            f"{emulated.shape} at {emulated_hz} Hz"
        )
    difference = native - emulated
    level_db = 10.0 * np.log10(np.mean(difference**2) / np.mean(native**2) + 1e-30)
    equal = np.mean(difference == 0.0)
    print(
        f"{len(native)} samples, {equal:.2%} equal to the bit, "
        f"largest difference {np.abs(difference).max():.2g} of full scale, ",
        end="",
    )
    print(
        f"level of the difference {level_db:.0f} dB of the output's "
        f"(bound {arguments.bound_db:.0f} dB)"
    )
    if level_db > arguments.bound_db:
        sys.exit("the machines do not agree: their difference is more than rounding")


if __name__ == "__main__":
    main()
