"""Names for the arrays that everything passes around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Samples, powers, mels, gains."""

Spectra = NDArray[np.complex64]
"""Short-time spectra."""
