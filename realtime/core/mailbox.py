"""One slot between two threads instead of a queue, so that the delay is bounded by construction."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A single slot that any thread may fill and any thread may empty.

    ``put`` never waits and the newest item wins. ``put_when_free`` waits until the slot is free, for lossless runs.
    After ``close`` nothing can be put; an item that is in the slot can still be taken.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._item: T | None = None
        self._full = False
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """The number of items that a newer one replaced before they were taken."""
        return self._dropped

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def put(self, item: T) -> T | None:
        """Put an item into the slot, replacing one that is still there. Never waits.

        Return the item that the caller now owns: the replaced one, or ``item`` itself when the mailbox is closed;
        otherwise None.
        """
        with self._changed:
            if self._closed:
                return item
            replaced = self._item
            if self._full:
                self._dropped += 1
            self._item, self._full = item, True
            self._changed.notify_all()
            return replaced

    def put_when_free(self, item: T, timeout: float | None = None) -> bool:
        """Wait until the slot is free and put an item into it.

        Return False if the mailbox was closed or ``timeout`` seconds have passed; the caller then keeps the item.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._full, timeout)
            if self._closed or self._full:
                return False
            self._item, self._full = item, True
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """Take the item, waiting up to ``timeout`` seconds for one.

        Return None if none came in time, or if the mailbox is closed and empty: ``closed`` tells which. Without a
        timeout None always means closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._full:
                if self._closed:
                    return None
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                self._changed.wait(remaining)
            item, self._item, self._full = self._item, None, False
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Accept no more items and wake every waiting thread. close() is idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
