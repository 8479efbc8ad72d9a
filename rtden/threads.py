"""Threads: one at a time in an object, and streams of several threads that compute in turn."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from rtden.errors import InputError

Method = TypeVar("Method", bound=Callable[..., Any])
Stream = TypeVar("Stream", bound="SingleThreaded")


class SingleThreaded:
    """A stream that one thread at a time may use; a `with` statement resets it at its end."""

    def __init__(self) -> None:
        self._busy = threading.RLock()

    def __enter__(self: Stream) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        with self._busy:  # a cancelled task leaves a thread that still computes
            self.reset()

    def __reduce_ex__(self, _: object) -> Any:
        """Refuse a copy, which would share half of the state, and pickling."""
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled; make another one.")

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        raise NotImplementedError


def one_thread(method: Method) -> Method:
    """Let a method of a :class:`SingleThreaded` raise InputError if another thread runs one."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:
        if not self._busy.acquire(blocking=False):
            raise InputError(
                f"another thread is in this {type(self).__name__}; make one for each stream."
            )
        try:
            return method(self, *args, **options)
        finally:
            self._busy.release()

    return cast(Method, guarded)


_mine = threading.local()
_turns: deque[Any] = deque()  # locks of the threads that compute or wait, in order
LONGEST_TURN_SECONDS = 0.1
"""A thread that takes longer loses its turn: a fork may have ended it."""


def take_turn() -> None:
    """Wait until the threads that asked earlier have computed their frames or run their networks.

    Python's interpreter lock is not fair: the thread that released it for a moment often gets it
    back. Without turns, a frame would wait for several frames of another stream.
    """
    _mine.turn = mine = threading.Lock()
    mine.acquire()
    _turns.append(mine)
    if len(_turns) > 1:
        with suppress(IndexError):
            while _turns[0] is not mine and not mine.acquire(timeout=LONGEST_TURN_SECONDS):
                _turns.popleft()


def give_turn() -> bool:
    """End the turn of this thread; return whether it had one."""
    mine = _mine.__dict__.pop("turn", None)  # an attribute that is missing costs more
    if mine is None:
        return False
    try:
        _turns.remove(mine)
    except ValueError:  # it took too long
        return True
    if _turns:
        with suppress(IndexError, RuntimeError):  # nobody waits any more, or it was released
            _turns[0].release()
    return True
