"""fds: the small integers that name connections, and their recycling. Pure.

`rising` hands out 1, 2, 3 … up to the maximum, and then the id that has been free longest, so
that an old id comes back as late as it can. `lowest` hands out the lowest free id, as POSIX
open(2) does. Both acquire and release in the same few steps, however many ids are in use or free.
An id costs nothing before it was used; after that, while it is free, four bytes for `rising`,
which has to know the order, and about a third of a byte for `lowest`.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, Literal, Protocol, TypeAlias, final

from ..errors import ConfigurationError

Policy: TypeAlias = Literal["rising", "lowest"]

FD_MAX: Final = 16_000_000
_BLOCK: Final = 4096  # ids an array of the queue
_WORD_BITS: Final = 8  # a word of a bitmap has 2 ** 8 bits
_WORD_MASK: Final = 2**_WORD_BITS - 1


class FdPool(Protocol):
    """Hands out ids. It is the registry's business to release each exactly once."""

    def acquire(self) -> int | None:
        """A free id, or None if all are in use."""

    def release(self, fd: int) -> None:
        """`fd` is free again."""


@final
class RisingFds:
    """1 … `fd_max` once, then first released, first reused. See `FdPool`."""

    __slots__ = ("_blocks", "_fd_max", "_head", "_next", "_tail")

    def __init__(self, fd_max: int) -> None:
        self._fd_max = fd_max
        self._next = 1
        # A queue of blocks of ids: taken from `_head` (reversed), put to `_tail`.
        self._head: array[int] = array("I")
        self._tail: array[int] = array("I")
        self._blocks: deque[array[int]] = deque()

    def acquire(self) -> int | None:
        if self._next <= self._fd_max:
            fd = self._next
            self._next += 1
            return fd
        if not self._head:
            self._head = self._blocks.popleft() if self._blocks else self._tail
            if self._head is self._tail:
                self._tail = array("I")
            self._head.reverse()
        return self._head.pop() if self._head else None

    def release(self, fd: int) -> None:
        self._tail.append(fd)
        if len(self._tail) == _BLOCK:
            self._blocks.append(self._tail)
            self._tail = array("I")


@final
class LowestFds:
    """The lowest free id, by bitmaps of bitmaps. See `FdPool`.

    A bit of `_levels[0]` says that an id is free, a bit of `_levels[n]` that some bit of a word
    of `_levels[n - 1]` is set. So the lowest free id is found by the lowest bit of one word a
    level, and there are four levels at most.
    """

    __slots__ = ("_fd_max", "_levels", "_next")

    def __init__(self, fd_max: int) -> None:
        self._fd_max = fd_max
        self._next = 1  # from here on no id was ever used
        self._levels: list[list[int]] = [[]]
        while fd_max >> len(self._levels) * _WORD_BITS:
            self._levels.append([])

    def acquire(self) -> int | None:
        if not any(self._levels[-1]):
            if self._next > self._fd_max:
                return None
            self._next += 1
            return self._next - 1
        fd = 0
        for words in reversed(self._levels):
            word = words[fd]
            fd = fd << _WORD_BITS | (word & -word).bit_length() - 1
        index = fd
        for words in self._levels:
            bit = 1 << (index & _WORD_MASK)
            index >>= _WORD_BITS
            words[index] ^= bit
            if words[index]:
                break
        return fd

    def release(self, fd: int) -> None:
        index = fd
        for words in self._levels:
            bit = 1 << (index & _WORD_MASK)
            index >>= _WORD_BITS
            if index >= len(words):
                words.extend([0] * (index + 1 - len(words)))
            before = words[index]
            words[index] = before | bit
            if before:
                break


def new_fds(policy: Policy, fd_max: int) -> FdPool:
    """The pool for a policy. Raises `ConfigurationError`."""
    if not 1 <= fd_max <= 2**32 - 1:
        raise ConfigurationError("fd_max", f"must be from 1 to {2**32 - 1}, not {fd_max!r}")
    if policy == "rising":
        return RisingFds(fd_max)
    if policy == "lowest":
        return LowestFds(fd_max)
    raise ConfigurationError("fd_policy", f'must be "rising" or "lowest", not {policy!r}')
