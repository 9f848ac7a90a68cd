"""PyTorch's old checkpoint files read without PyTorch: bit for bit, and nothing is ever run."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.backbones.checkpoint import read_checkpoint
from blemish.errors import WeightsError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
KINDS = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}


class Name:
    """A module's function or class, which a pickle names whether or not it is there."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None: ...  # the writer wants what it calls to be callable


class Storage:
    """A run of numbers, kept behind the pickles."""

    def __init__(self, key: str, values: np.ndarray, kind: str = "FloatStorage") -> None:
        self.key, self.values, self.kind = key, values.astype(KINDS[kind]), kind


class Call:
    """What a pickle makes by calling a name."""

    def __init__(self, name: Name, *arguments: Any) -> None:
        self.made = (name, arguments)

    def __reduce__(self) -> tuple[Name, tuple[Any, ...]]:
        return self.made


class Writer(pickle._Pickler):
    """Writes names as they are, and storages by their key."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_name(self, name: Name) -> None:
        self.write(f"c{name.module}\n{name.name}\n".encode())

    dispatch[Name] = save_name

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        kind = Name("torch", obj.kind)
        return ("storage", kind, obj.key, "cpu", len(obj.values), None)


def tensor(
    storage: Any, shape: Sequence[int], stride: Sequence[int] | None = None, offset: int = 0
) -> Call:
    """A view of a storage, in C order unless steps are given."""
    steps = stride or [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage, offset, tuple(shape), tuple(steps), False, OrderedDict())


def file_of(
    state: Mapping[str, Any], storages: Sequence[Storage], *, first: Any = MAGIC, keys: Any = None
) -> bytes:
    """An old-style checkpoint file, without PyTorch."""
    out = io.BytesIO()
    for value in (first, PROTOCOL, {"little_endian": True}, OrderedDict(state)):
        Writer(out, 2).dump(value)
    Writer(out, 2).dump([each.key for each in storages] if keys is None else keys)
    for each in storages:
        out.write(struct.pack("<q", len(each.values)) + each.values.tobytes())
    return out.getvalue()


NUMBERS = Storage("0", np.arange(12))
SMALL = file_of(
    {"whole": tensor(NUMBERS, (3, 4)), "turned": tensor(NUMBERS, (4, 3), (1, 4))},
    [NUMBERS],
)


def refused(data: bytes) -> str:
    """The one sentence that names the file."""
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(data, "net.pth")
    said = str(caught.value)
    assert said.startswith("net.pth is not a PyTorch state dict that can be read")
    assert len(said.splitlines()) == 1
    return said


def test_views_of_a_storage() -> None:
    """Shape, steps and offset are those of the file, and several tensors may share numbers."""
    numbers = np.arange(12, dtype=np.float32)
    halves = Storage("1", np.array([0.1, 2.0]), "HalfStorage")
    counts = Storage("2", np.array([2**40 + 1]), "LongStorage")
    found = read_checkpoint(
        file_of(
            {
                "whole": tensor(NUMBERS, (3, 4)),
                "turned": tensor(NUMBERS, (4, 3), (1, 4)),
                "part": tensor(NUMBERS, (2, 2), (4, 1), 5),
                "repeated": tensor(NUMBERS, (2, 3), (0, 1), 9),
                "half": tensor(halves, (2,)),
                "count": tensor(counts, ()),
                "note": "not a tensor",
            },
            [NUMBERS, halves, counts],
        ),
        "net.pth",
    )
    wanted = {
        "whole": numbers.reshape(3, 4),
        "turned": numbers.reshape(3, 4).T,
        "part": numbers.reshape(3, 4)[1:, 1:3],
        "repeated": np.array([[9, 10, 11]] * 2, np.float32),
        "half": np.array([0.1, 2.0], np.float16),
        "count": np.array(2**40 + 1),
    }
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
        assert found[name].flags.c_contiguous


def test_what_pytorch_writes_is_read_bit_for_bit() -> None:
    """Every kind of tensor of a state dict, also those that are no run of memory of their own."""
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    torch.manual_seed(0)
    numbers = torch.randn(4, 6, 2)
    state = OrderedDict(
        whole=numbers,
        turned=numbers.permute(2, 0, 1),
        part=numbers[1:3, ::2],
        column=numbers[:, 3, 1],
        repeated=torch.randn(3, 1).expand(3, 5),
        scalar=torch.tensor(3.5),
        odd=torch.tensor([float("nan"), float("inf"), -0.0, 1e-40]),
        half=torch.randn(5).half(),
        count=torch.tensor(7),
        again=numbers,
    )
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=False)
    found = read_checkpoint(out.getvalue(), "net.pth")
    assert list(found) == list(state)
    for name, values in state.items():
        wanted = values.numpy()
        assert (found[name].dtype, found[name].shape) == (wanted.dtype, wanted.shape)
        assert found[name].tobytes() == np.ascontiguousarray(wanted).tobytes()


@pytest.mark.parametrize("kind", ["DoubleStorage", "BFloat16Storage", "ByteStorage"])
def test_other_kinds_of_numbers_are_refused(kind: str) -> None:
    """No network known here has them, so their names are not on the list."""
    odd = Storage("0", np.arange(2))
    odd.kind = kind
    assert f"torch.{kind} is not a tensor's" in refused(file_of({"x": tensor(odd, (2,))}, [odd]))


@pytest.mark.parametrize("place", ["first", "state", "storage", "keys"])
@pytest.mark.parametrize(
    ("module", "name", "code"),
    [
        ("os", "system", "touch {trap}"),
        ("posix", "system", "touch {trap}"),
        ("builtins", "eval", "open({trap!r}, 'w')"),
        ("builtins", "exec", "open({trap!r}, 'w')"),
        ("builtins", "open", "{trap}"),
        ("pathlib", "Path", "{trap}"),
        ("torch", "load", "{trap}"),
        ("torch.nn.modules.linear", "Linear", "3"),
        ("torch._utils", "_rebuild_parameter", "x"),
        ("torch._utils", "_rebuild_tensor", "x"),
        ("collections", "defaultdict", "x"),
        ("blemish.backbones.checkpoint", "np.dtype", "x"),
    ],
)
def test_nothing_else_can_be_called(
    tmp_path: Path, module: str, name: str, code: str, place: str
) -> None:
    """Any name but a tensor's ends the reading, wherever it stands; it is not even looked up."""
    trap = tmp_path / "ran"
    call = Call(Name(module, name), code.format(trap=str(trap)))
    data = {
        "first": lambda: file_of({}, [], first=call),
        "state": lambda: file_of({"x": call}, []),
        "storage": lambda: file_of({"x": tensor(call, (2,))}, []),
        "keys": lambda: file_of({}, [], keys=call),
    }[place]()
    assert f"{module}.{name} is not a tensor's" in refused(data)
    assert not trap.exists()


def test_the_trap_would_have_run(tmp_path: Path) -> None:
    """Python's own reader does run such a file: the test above tests something."""
    trap = tmp_path / "ran"
    out = io.BytesIO()
    Writer(out, 2).dump(Call(Name("builtins", "open"), str(trap), "w"))
    pickle.loads(out.getvalue()).close()
    assert trap.exists()


def test_a_file_that_was_cut_short() -> None:
    """Wherever it ends too early it is refused."""
    for cut in range(len(SMALL)):
        refused(SMALL[:cut])


@contextmanager
def little_memory() -> Iterator[None]:
    """256 MiB beyond what the process has: a damaged length may ask for all there is.

    Blemish itself only reads files whose sha256 it knows.
    """
    if sys.platform != "linux":
        pytest.skip("limits of memory are Linux's")
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (256 << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# Python's own complaint about a byte array that it could not fill (CPython's _pickle.c).
steady = settings(deadline=None, derandomize=True, max_examples=300)
unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def read_anything(data: bytes) -> None:
    """Read what may be damaged: named arrays come out, or one error of Blemish's own."""
    with little_memory(), suppress(WeightsError):
        found = read_checkpoint(data, "net.pth")
        assert all(isinstance(name, str) for name in found)
        assert all(isinstance(values, np.ndarray) for values in found.values())


@unraisable
@steady
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(1, 255)), max_size=4))
def test_damaged_bytes_give_arrays_or_one_sentence(flips: list[tuple[int, int]]) -> None:
    """Whatever stands in the file, nothing but that comes of it."""
    data = bytearray(SMALL)
    for position, change in flips:
        data[position] ^= change
    read_anything(bytes(data))


@unraisable
@steady
@given(st.binary(max_size=200))
def test_any_bytes_behind_a_good_start(tail: bytes) -> None:
    """The state dict may be any bytes at all."""
    start = io.BytesIO()
    for value in (MAGIC, PROTOCOL, {}):
        pickle.dump(value, start, 2)
    read_anything(start.getvalue() + tail)


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "said"),
    [
        ((13,), (1,), 0, "beyond its storage"),
        ((12,), (1,), 1, "beyond its storage"),
        ((2, 4), (9, 1), 0, "beyond its storage"),
        ((1,), (1,), 12, "beyond its storage"),
        ((4,), (-1,), 11, "negative step"),
        ((4,), (1,), -1, "negative step"),
        ((2, 2), (-1, 2), 5, "negative step"),
    ],
)
def test_tensors_stay_inside_their_storage(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int, said: str
) -> None:
    """Steps that would read the memory around a storage are refused."""
    assert said in refused(file_of({"x": tensor(NUMBERS, shape, stride, offset)}, [NUMBERS]))


def test_a_storage_that_is_not_in_the_file() -> None:
    """A tensor whose numbers the file lacks is no tensor of zeros."""
    said = refused(file_of({"x": tensor(NUMBERS, (12,))}, []))
    assert "its storages are others than its tensors'" in said


def test_a_storage_of_another_length() -> None:
    """The length before the numbers is the one that the state dict gave."""
    data = bytearray(file_of({"x": tensor(NUMBERS, (12,))}, [NUMBERS]))
    position = len(data) - NUMBERS.values.nbytes - 8
    data[position : position + 8] = struct.pack("<q", 11)
    assert "cut short" in refused(bytes(data))


def zipped() -> bytes:
    """The start of what PyTorch writes today: a zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        zipped(),
        b"hello",
        pickle.dumps({"x": 1}),
        pickle.dumps(MAGIC) + pickle.dumps(PROTOCOL + 1),
        pickle.dumps(MAGIC, 2) + pickle.dumps(PROTOCOL, 2) + pickle.dumps({}, 2) + b"N." * 2,
        pickle.dumps(MAGIC, 2) + pickle.dumps(PROTOCOL, 2) + pickle.dumps({}, 2) + b"I1\n.](.",
        bytes(1000),
    ],
    ids=["empty", "zip", "text", "pickle", "protocol", "none", "number", "zeros"],
)
def test_other_formats(data: bytes) -> None:
    """What is no such file is told in one sentence."""
    refused(data)
