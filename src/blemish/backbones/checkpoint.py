"""Read PyTorch's old-style checkpoint files without PyTorch: tensors of a few types, nothing else.

Such a file is a row of pickles (a magic number, a protocol version, the writer's type sizes, the
state dict, the storages' keys) and then each storage's length and raw bytes. The state dict is
unpickled by a reader that maps five names to functions of this module and refuses every other, so
that a file can build arrays and dicts but run nothing.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

Array = npt.NDArray[Any]


class _Storage:
    """A run of numbers that tensors are views of; filled after the pickles were read."""

    def __init__(self, dtype: npt.DTypeLike, length: int) -> None:
        self.values: Array = np.zeros(length, dtype)


class _View:
    """A tensor: a place in a storage, a shape, and the steps between neighbours (in numbers)."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def array(self) -> Array:
        """The numbers themselves; raises ValueError where they would lie outside the storage."""
        steps = [(length - 1) * step for length, step in zip(self.shape, self.stride, strict=True)]
        last = self.offset + sum(steps)
        if min((self.offset, *self.stride, *steps), default=0) < 0:
            raise ValueError("a tensor with a negative step")
        values = self.storage.values
        if last >= len(values):
            raise ValueError("a tensor that reaches beyond its storage")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [step * values.itemsize for step in self.stride]
        )
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(
    storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _View:
    """Stand in for `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _View(storage, offset, tuple(shape), tuple(stride))


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "HalfStorage"): np.dtype("<f2"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Reader(pickle.Unpickler):
    """Builds dicts and tensors; any name that is not in `_NAMES` ends it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is not a tensor's")
        return _NAMES[module, name]

    def persistent_load(self, key: Any) -> _Storage:
        kind, dtype, name, _device, length, view = key
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("a storage of a kind that is not known")
        if name not in self.storages:
            self.storages[name] = _Storage(dtype, length)
        return self.storages[name]


def read_checkpoint(data: bytes, where: str) -> dict[str, Array]:
    """Read the named tensors of an old-style PyTorch state dict from its bytes.

    Raises WeightsError, naming `where`, for anything that is not one.
    """
    try:
        return _read(io.BytesIO(data))
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
            AttributeError, OverflowError, MemoryError, struct.error) as error:  # fmt: skip
        raise WeightsError(
            f"{where} is not a PyTorch state dict that can be read without PyTorch ({error})"
        ) from error


def _read(file: io.BytesIO) -> dict[str, Array]:
    if (_plain(file), _plain(file)) != (_MAGIC, _PROTOCOL):
        raise ValueError("its first bytes are another format's")
    _plain(file)  # sizes of the writer's types, of no use here
    reader = _Reader(file)
    state = reader.load()
    names = _plain(file)
    if set(names) != set(reader.storages):
        raise ValueError("its storages are others than its tensors'")
    for name in names:
        storage = reader.storages[name]
        (length,) = struct.unpack("<q", file.read(8))
        data = file.read(storage.values.nbytes)
        if length != len(storage.values) or len(data) != storage.values.nbytes:
            raise ValueError("it was cut short")
        storage.values = np.frombuffer(data, storage.values.dtype)
    return {str(name): view.array() for name, view in state.items() if isinstance(view, _View)}


def _plain(file: io.BytesIO) -> Any:
    """The next pickle, of plain values."""
    return _Reader(file).load()
