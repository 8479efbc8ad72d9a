"""Training and export of networks: the only part that imports tensorflow (extra ``train``).

In the order of the work: `corpus` decodes recordings; `sources`, `synthesis`, `codecs` and `mixing`
make noisy mixtures of them; `batches` computes features; `network` is trained through `signal_path`
and `loss` (`pesq_loss`, `stoi_loss`, `dnsmos_loss`) by `trainer`, as a `recipe` says, with
`checkpoint`; `export` quantises; `run` does it all and refuses a model that is worse than its
start. `seed_notebook` is the recipe from which rtden grew.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from rtden.errors import MissingPackageError
from rtden.extras import install_command


def training_package(name: str) -> Any:
    """Return a package of the extra "train"; one that is missing raises MissingPackageError."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackageError(
            f"training needs {name}, which is not installed: run '{install_command('train')}'."
        ) from None


def require_packages() -> None:
    """Load what training needs; what is missing raises MissingPackageError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tensorflow greets at length
    for name in ("tensorflow", "keras", "scipy"):
        training_package(name)
