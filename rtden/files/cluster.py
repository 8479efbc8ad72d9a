"""A dask cluster that does the work (extra "dask")."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from rtden.errors import MissingPackageError, RtdenError
from rtden.extras import install_command

CONNECT_SECONDS = 5.0
WORKERS_SECONDS = 60.0
"""A cluster may start its workers when it is asked for work, but not for ever."""
ATTEMPTS_AGAIN = 2
"""How often the cluster itself tries a task again that raised, and a lost one is done alone."""

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to the scheduler at an address."""
    try:
        import distributed
    except ImportError:
        raise MissingPackageError(
            "the package distributed, which reaches a dask cluster, is not installed: "
            f"run {install_command('dask')}"
        ) from None
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)  # what matters is said in sentences
        # A client that could not connect would wait for itself when it is deleted, and complain.
        made = type("Client", (distributed.Client,), {"__del__": lambda _: None})
        try:
            client = made(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # what answers there may be anything
            known = isinstance(error, (OSError, ValueError)) and str(error).strip()
            reason = str(error).strip().splitlines()[0] if known else "what answers is none"
            raise RtdenError(
                f"no dask scheduler answers at {address} ({reason}); start one with "
                "'dask scheduler', or check the address."
            ) from None
        with client:
            yield client
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def on_cluster(
    client: Any, work: Callable[[Job], Result], jobs: Sequence[Job]
) -> Generator[tuple[Job, Result | str | None], None, None]:
    """Yield jobs with their results, in the order in which they are done.

    A job whose worker died, or whose result was lost with a worker before it came here, is done
    again after all others, alone, so that no other job can take its worker away. After it has lost
    its worker twice more its result is None; a sentence says why the cluster could not do it.
    """
    lost: list[Job] = []
    for job, result in _as_completed(client, work, jobs):
        if result is None:
            lost.append(job)
        else:
            yield job, result
    for job in lost:
        result = None
        for _ in range(ATTEMPTS_AGAIN):
            if result is None:
                ((_, result),) = _as_completed(client, work, [job])
        yield job, result


def _as_completed(
    client: Any, work: Callable[[Job], Result], jobs: Sequence[Job]
) -> Generator[tuple[Job, Result | str | None], None, None]:
    """Yield jobs with their results, a sentence, or None for what was lost with a worker."""
    import distributed

    if not jobs:
        return
    futures = client.map(work, jobs, pure=False, retries=ATTEMPTS_AGAIN, key="rtden")
    try:
        client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        job_of = {future.key: job for future, job in zip(futures, jobs, strict=True)}
        for future in distributed.as_completed(futures, loop=client.loop):
            yield job_of[future.key], _result(client, future)
            future.release()  # the cluster need not remember it
    except distributed.TimeoutError:
        raise RtdenError(
            f"the dask cluster has had no worker for {WORKERS_SECONDS:.0f} s; start some with "
            "'dask worker ADDRESS'."
        ) from None
    finally:
        with suppress(Exception):
            client.cancel(futures, force=True)


def _result(client: Any, future: Any) -> Any:
    """Return what became of a job; None if a worker died, which may be another job's fault."""
    import distributed

    try:
        return future.result()
    except distributed.KilledWorker:
        return None
    except Exception as error:  # whatever was wrong on a worker
        if client.status != "running" or future.status in ("cancelled", "lost"):
            raise RtdenError(
                "the connection to the dask cluster was lost; the same command goes on with what "
                "is not yet finished."
            ) from None
        name = type(error).__name__
        return f"the cluster could not do it ({name}: {error}); install the same rtden on it."
