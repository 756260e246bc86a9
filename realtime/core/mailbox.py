"""One slot between two threads, instead of a queue: the delay is bounded by construction."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A single slot that any thread may fill and any thread may empty.

    ``put`` never waits and the newest item wins; ``hand`` waits until the slot is free, for work in lock-step
    where nothing may be lost. After ``close`` nothing goes in; what is in the slot can still be taken out.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._item: T | None = None
        self._full = False
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items were pushed out by a newer one before anybody took them."""
        return self._dropped

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def put(self, item: T) -> T | None:
        """Leave the item, pushing out one that is still there. Never waits.

        Returns the item that the caller has back in its hands: the one that was pushed out, the new one itself
        when the mailbox is closed, otherwise None.
        """
        with self._changed:
            if self._closed:
                return item
            back = self._item
            if self._full:
                self._dropped += 1
            self._item, self._full = item, True
            self._changed.notify_all()
            return back

    def hand(self, item: T, timeout: float | None = None) -> bool:
        """Wait until the slot is free and leave the item; False if it could not: closed, or out of time (s)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._full, timeout)
            if self._closed or self._full:
                return False
            self._item, self._full = item, True
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """Take the item, waiting for one if need be.

        None means that ``timeout`` seconds passed without one, or that the mailbox is closed and empty:
        ``closed`` tells which. Without a timeout None always means closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._full:
                if self._closed:
                    return None
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            item, self._item, self._full = self._item, None, False
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let nothing more in and wake everybody who waits. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
