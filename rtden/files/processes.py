"""Work in several processes, or on a dask cluster (extra "dask").

Each may die without taking another's task with it.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from rtden.errors import RtdenError
from rtden.extras import needed

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_SECONDS = 5.0
WORKERS_SECONDS = 60.0
"""A cluster may start its workers when it is asked for work, but not for ever."""
ATTEMPTS_AGAIN = 2
"""How often the cluster itself tries a task again that raised, and a lost one is done alone."""
MOST_PROCESSES = 60  # a pool cannot wait for more of them on Windows
BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ready(prepare: Callable[..., object], *arguments: Any) -> None:
    """Prepare a process: Ctrl-C is its starter's, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent() -> None:
    """End this process when its starter has been killed: nobody would ever do so else."""
    if (parent := multiprocessing.parent_process()) is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _load() -> None:
    """Load the runtime, so that it says hello to nobody."""
    from rtden.denoiser import Denoiser
    from rtden.quiet import quiet_stderr

    with quiet_stderr(), suppress(RtdenError):
        Denoiser()


@contextmanager
def process_pool(
    processes: int, prepare: Callable[..., object] = _load, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes of one thread each, started afresh; at the end they are ended.

    Each calls `prepare` with the arguments first.
    """
    processes, context = min(processes, MOST_PROCESSES), multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _ready, (prepare, *arguments))
    chosen = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = chosen or "1"  # read by each process when it loads numpy
    try:
        try:
            with without_interrupts():
                pool.submit(os.getpid).result()  # it can work
        except BrokenExecutor:
            raise RtdenError(
                "processes to work in cannot be started here; let one at a time do the work."
            ) from None
        yield pool
    finally:
        if chosen is None:
            os.environ.pop(BLAS_THREADS, None)
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()  # nobody waits for what is not done
        pool.shutdown(cancel_futures=True)


def in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], processes: int
) -> Generator[tuple[Task, Result | None], None, None]:
    """Yield each task with its result, in the order in which they are done.

    If a process dies, the tasks that were being worked on are each done once more, alone; the one
    whose process dies then, too, has the result None. When the generator is closed or interrupted,
    the processes are ended at once. `work` is a function of a module that other processes can
    import; it must not raise.
    """
    waiting = deque(tasks)
    while waiting:
        suspects: list[Task] = []
        yield from _until_one_dies(work, waiting, processes, suspects)
        for task in suspects:
            again: list[Task] = []
            yield from _until_one_dies(work, deque([task]), 1, again)
            if again:
                yield task, None


def _until_one_dies(
    work: Callable[[Task], Result], waiting: deque[Task], processes: int, suspects: list[Task]
) -> Generator[tuple[Task, Result], None, None]:
    """Yield tasks and results; if a process dies, put the tasks in work into `suspects`."""
    running: dict[Future[Result], Task] = {}
    with process_pool(min(processes, len(waiting))) as pool:
        while (waiting or running) and not suspects:
            done: set[Future[Result]] = set()
            try:
                if running:
                    done = wait(running, return_when=FIRST_COMPLETED).done
                while waiting and len(running) - len(done) < processes:
                    with without_interrupts():
                        running[pool.submit(work, waiting[0])] = waiting[0]
                    waiting.popleft()
                died = any(future.exception() for future in done)
            except BrokenExecutor:
                died = True
            for future in wait(running).done if died else done:
                task = running.pop(future)
                if future.exception() is None:
                    yield task, future.result()
                else:
                    suspects.append(task)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Block Ctrl-C for processes that are started here: they inherit it, and are ended by us."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it would come with the first process, and unblock
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to the scheduler at an address."""
    distributed = needed("distributed", "dask", "a dask cluster")
    # A client that could not connect would wait for itself when it is deleted, and complain.
    made = type("Client", (distributed.Client,), {"__del__": lambda _: None})
    with ExitStack() as opened:
        for name in ("distributed", "distributed.client"):  # what matters is said in sentences
            log = logging.getLogger(name)
            opened.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL + 1)
        try:
            client = made(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # what answers there may be anything
            known = isinstance(error, (OSError, ValueError)) and str(error).strip()
            reason = str(error).strip().splitlines()[0] if known else "what answers is none"
            raise RtdenError(
                f"no dask scheduler answers at {address} ({reason}); start one with "
                "'dask scheduler', or check the address."
            ) from None
        yield opened.enter_context(client)


def on_cluster(
    client: Any, work: Callable[[Task], Result], tasks: Sequence[Task]
) -> Generator[tuple[Task, Result | str | None], None, None]:
    """Yield tasks with their results, in the order in which they are done.

    A task whose worker died, or whose result was lost with a worker before it came here, is done
    again after all others, alone, so that no other task can take its worker away. After it has lost
    its worker twice more its result is None; a sentence says why the cluster could not do it.
    """
    lost: list[Task] = []
    for task, result in _as_completed(client, work, tasks):
        if result is None:
            lost.append(task)
        else:
            yield task, result
    for task in lost:
        result = None
        for _ in range(ATTEMPTS_AGAIN):
            if result is None:
                ((_, result),) = _as_completed(client, work, [task])
        yield task, result


def _as_completed(
    client: Any, work: Callable[[Task], Result], tasks: Sequence[Task]
) -> Generator[tuple[Task, Result | str | None], None, None]:
    """Yield tasks with their results, a sentence, or None for what was lost with a worker."""
    import distributed

    if not tasks:
        return
    futures = client.map(work, tasks, pure=False, retries=ATTEMPTS_AGAIN, key="rtden")
    try:
        client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        task_of = {future.key: task for future, task in zip(futures, tasks, strict=True)}
        for future in distributed.as_completed(futures, loop=client.loop):
            yield task_of[future.key], _result(client, future)
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
    """Return what became of a task; None if a worker died, which may be another task's fault."""
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
