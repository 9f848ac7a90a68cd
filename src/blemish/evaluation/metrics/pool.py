"""Arrays that grow in place, and float32 scores as integers that sort the same way."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

_SIGN = np.uint32(1 << 31)


class Pool(Generic[Scalar]):
    """A one-dimensional array that grows in place, so that joining never holds it twice."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._values: NDArray[Any] = np.empty(0, dtype=dtype)
        self._used = 0
        self._is_sorted = True

    def __len__(self) -> int:
        return self._used

    def extend(self, values: NDArray[Scalar]) -> None:
        """Append values [N]."""
        end = self._used + values.size
        if end > self._values.size:
            # No view of the array outlives a method's caller, so it may move.
            self._values.resize(end + end // 8, refcheck=False)
        self._values[self._used : end] = values
        self._used = end
        self._is_sorted = False

    def values(self) -> NDArray[Scalar]:
        """All values in their present order; valid until the next `extend`."""
        return self._values[: self._used]

    def sorted(self) -> NDArray[Scalar]:
        """All values, ascending, sorted in place; valid until the next `extend`."""
        if not self._is_sorted:
            self.values().sort()
            self._is_sorted = True
        return self.values()


def sort_keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers [N] in the order of finite scores [N]; equal scores have equal keys.

    The bits of a float sort as sign and magnitude: those of a negative number are turned over,
    the others get the sign bit set. Adding 0 makes of -0 the 0 that it equals.
    """
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def from_sort_keys(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The scores [N] whose `sort_keys` these are."""
    bits: NDArray[np.uint32] = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
    return bits.view(np.float32)
