"""Work in several processes at a time, each of which may die without taking more than its task with it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from rtden.errors import RtdenError

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_PROCESSES = 60
"""A pool cannot wait for more of them on Windows."""
FAILED_STARTS = 3
"""So many processes in a row that die before they are ready say that none ever will be."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes of one thread each; whatever is not done at the end is left undone."""
    _use_one_thread_each()
    pool = _Pool(
        min(processes, MOST_PROCESSES),
        multiprocessing.get_context("spawn"),
        initializer=_ignore_interrupts,
    )
    try:
        yield pool
    finally:
        pool.shutdown(
            cancel_futures=True
        )  # after an error or an interrupt nobody waits for the rest


class _Pool(ProcessPoolExecutor):
    """A pool whose processes, which it starts when there is work, leave Ctrl-C to the one that started them."""

    def submit(self, *arguments: Any, **options: Any) -> Any:
        with without_interrupts():
            return super().submit(*arguments, **options)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _use_one_thread_each() -> None:
    """As many processes as cores, each of one thread; read where numpy is loaded, which each of them does for itself."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], processes: int
) -> Generator[tuple[Task, Result | None], None, None]:
    """Yield each task with its result, in the order in which they are done.

    A process does task after task. If it dies, its task is done once more after all others, with nothing beside it, for
    memory may have been short; if that process dies, too, the result is None. When the generator is closed, or interrupted,
    the processes are ended at once.

    Parameters
    ----------
    work : callable
        A function of a module, which other processes can import; it must not raise. Processes are started afresh, so that a
        script must guard its own call by ``__name__ == "__main__"``.
    processes : int
        How many at the most.

    Raises
    ------
    RtdenError
        If no process can be started.
    """
    _use_one_thread_each()
    lost: list[Task] = []
    yield from _spread(work, tasks, processes, lost)
    lost_again: list[Task] = []
    yield from _spread(work, lost, 1, lost_again)
    for task in lost_again:
        yield task, None


def _spread(
    work: Callable[[Task], Result], tasks: Sequence[Task], processes: int, lost: list[Task]
) -> Generator[tuple[Task, Result], None, None]:
    """Yield tasks and results; the tasks whose processes died go into `lost`."""
    waiting = deque(tasks)
    workers: list[_Worker[Task]] = []  # those that start, and those that have a task
    failed_starts = 0
    try:
        while waiting or workers:
            starting = sum(worker.task is None for worker in workers)
            # One after the other, so that those there are will be ended if one cannot be started.
            workers.extend(
                _Worker(work) for _ in range(min(processes - len(workers), len(waiting) - starting))
            )
            readable = multiprocessing.connection.wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in readable]:
                done, worker.task = worker.task, None
                try:
                    result = worker.connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.end()
                    if done is None:
                        failed_starts += 1
                        if failed_starts == FAILED_STARTS:
                            raise RtdenError(
                                "processes to work in cannot be started here; let one at a time do the work, in this process."
                            ) from None
                    else:
                        lost.append(done)
                    continue
                failed_starts = 0
                if waiting:
                    worker.give(
                        waiting.popleft()
                    )  # before this process looks at the result: nobody is to wait for it
                if done is not None:
                    yield done, result
            if not waiting:
                for worker in [worker for worker in workers if worker.task is None]:
                    workers.remove(worker)
                    worker.end()
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[Task]):
    """A process and what it is busy with; what it first sends says that it is ready, and then each thing is a result."""

    def __init__(self, work: Callable[[Task], Any]) -> None:
        self.task: Task | None = None
        # A forked process would have this one's locks, held by threads that it does not have.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        try:
            with without_interrupts():
                self._process.start()
        except OSError as error:
            self.connection.close()
            raise RtdenError(
                f"a process to work in cannot be started ({error.strerror}); let fewer work at a time."
            ) from None
        finally:
            theirs.close()  # only then does the death of the process close the connection

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it has just died: the connection will say so
            self.connection.send(task)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from a process started here, which inherits what is blocked: its starter ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it comes with the first process otherwise, and lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Any, work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):  # whoever gave the tasks has gone
        connection.send(None)
        while True:
            connection.send(work(connection.recv()))
