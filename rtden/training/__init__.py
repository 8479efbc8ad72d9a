"""Training and export of networks: the only part that imports tensorflow (extra ``train``).

In the order of the work: `corpus` decodes recordings; `sources`, `synthesis`, `codecs` and `mixing`
make noisy mixtures of them; `batches` computes features; `network` is trained through `signal_path`
and `loss` (`pesq_loss`, `stoi_loss`, `dnsmos_loss`) by `trainer`, as a `recipe` says; `export`
quantises; `run` does it all and refuses a model that is worse than its start. `seed_notebook` is
the recipe from which rtden grew.
"""

from __future__ import annotations

import os

from rtden.extras import needed


def require_packages() -> None:
    """Load what training needs; what is missing raises MissingPackageError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tensorflow greets at length
    for name in ("tensorflow", "keras", "scipy"):
        needed(name, "train", "training")
