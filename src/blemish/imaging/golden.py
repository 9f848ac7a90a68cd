"""What a view has learned from good images: the golden image, what counts of it, and two limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError
from blemish.imaging.geometry import Mask

Tensors = Mapping[str, npt.NDArray[np.generic]]
_MOST_SIDE = 10**6


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden image and what follows from it.

    `hw`: its height and width before the view. `picture` [size, size, 3]: the whole of it at the
    view, where parts are aligned with it. `mask` [H, W]: which of its own pixels count; None: all.
    `limit`: the residual beyond which a part is not aligned; `least`: the share of what counts that
    a part must show. Equal if all of these are.
    """

    hw: tuple[int, int]
    picture: npt.NDArray[np.uint8] | None = None
    mask: Mask | None = None
    limit: float = math.inf
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.mask is not None and not (self.mask.shape == self.hw and self.mask.any()):
            raise ParameterError(
                f"the view's mask is {list(self.mask.shape)}, or has nothing that counts; it must "
                f"be as large as the golden image, {list(self.hw)}"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Golden):
            return NotImplemented
        return (
            self.to_dict() == other.to_dict()
            and _same(self.picture, other.picture)
            and _same(self.mask, other.mask)
        )

    def __hash__(self) -> int:
        return hash((self.hw, self.limit, self.least))

    def to_dict(self) -> dict[str, Any]:
        """The plain values, for a manifest."""
        values: dict[str, Any] = {"hw": list(self.hw)}
        if self.picture is not None:
            values |= {"residual_limit": self.limit, "least_shown": self.least}
        return values

    def tensors(self) -> dict[str, npt.NDArray[np.uint8]]:
        """The arrays, for a bundle: `golden` [size, size, 3], `mask` [H, W / 8] of packed bits."""
        found = {}
        if self.picture is not None:
            found["golden"] = self.picture
        if self.mask is not None:
            found["mask"] = np.packbits(self.mask, axis=1)
        return found

    @classmethod
    def from_dict(cls, values: Any, tensors: Tensors) -> Golden:
        """What `to_dict` and `tensors` gave; raises ParameterError for anything else."""
        known = {"hw", "residual_limit", "least_shown"}
        if not isinstance(values, Mapping) or not set(values) <= known:
            raise ParameterError(f"the view's golden image is described by {values!r:.80}")
        hw = values.get("hw")
        if not (isinstance(hw, list | tuple) and len(hw) == 2 and all(map(_is_side, hw))):
            raise ParameterError(f"the golden image's size is {hw!r:.40}, not [height, width]")
        return cls(
            hw=(hw[0], hw[1]),
            picture=_picture(tensors.get("golden")),
            mask=_unpacked(tensors.get("mask"), (hw[0], hw[1])),
            limit=_number(values, "residual_limit", math.inf),
            least=_number(values, "least_shown", 0.0),
        )


def _same(one: npt.NDArray[Any] | None, other: npt.NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_SIDE


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ParameterError(f"the view's {name} is {value!r:.40}, not a number")
    return float(value)


def _picture(tensor: npt.NDArray[np.generic] | None) -> npt.NDArray[np.uint8] | None:
    if tensor is None:
        return None
    if tensor.dtype != np.uint8 or tensor.ndim != 3 or tensor.shape[2] != 3 or not tensor.size:
        raise ParameterError(
            f"the golden image is {tensor.dtype} of shape {list(tensor.shape)}, not uint8 "
            "[size, size, 3]"
        )
    return np.asarray(tensor, np.uint8)


def _unpacked(tensor: npt.NDArray[np.generic] | None, hw: tuple[int, int]) -> Mask | None:
    if tensor is None:
        return None
    wanted = (hw[0], -(-hw[1] // 8))
    if tensor.dtype != np.uint8 or tensor.shape != wanted:
        raise ParameterError(
            f"the view's mask is {tensor.dtype} of shape {list(tensor.shape)}, not uint8 "
            f"{list(wanted)}"
        )
    return np.unpackbits(np.asarray(tensor, np.uint8), axis=1, count=hw[1]).astype(np.bool_)
