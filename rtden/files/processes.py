"""Work in several processes, each of which may die without taking another's task with it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from rtden.errors import RtdenError

Task = TypeVar("Task")
Result = TypeVar("Result")

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
def _one_blas_thread() -> Iterator[None]:
    """Let processes that are started here compute linear algebra in one thread, unless told more.

    They read it from the environment when they load numpy; afterwards it is as it was.
    """
    chosen = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = chosen or "1"
    try:
        yield
    finally:
        if chosen is None:
            os.environ.pop(BLAS_THREADS, None)


@contextmanager
def process_pool(
    processes: int, prepare: Callable[..., object] = _load, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes of one thread each, started afresh; at the end they are ended.

    Each calls `prepare` with the arguments first.
    """
    context = multiprocessing.get_context("spawn")
    processes = min(processes, MOST_PROCESSES)
    pool = ProcessPoolExecutor(processes, context, _ready, (prepare, *arguments))
    with _one_blas_thread():
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
