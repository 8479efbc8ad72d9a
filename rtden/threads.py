"""One object, one thread: a call while another thread is in the object is refused."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from rtden.errors import InputError

Method = TypeVar("Method", bound=Callable[..., Any])
Stream = TypeVar("Stream", bound="SingleThreaded")


class SingleThreaded:
    """A stream that one thread at a time may use; a `with` statement resets it at its end."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def __enter__(self: Stream) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        raise NotImplementedError


def one_thread(method: Method) -> Method:
    """Let a method of a :class:`SingleThreaded` raise InputError if it is running already."""

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
