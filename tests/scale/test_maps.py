"""Maps as compressed bytes: what comes back, and what is no map."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from blemish.errors import ParameterError
from blemish.scale import packed_map, read_map


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e7])
def test_values_come_back(scale: float) -> None:
    """Small and usual values within 0.05 %; those too large for half precision to the last bit."""
    values = (np.random.default_rng(0).random((33, 17)) * scale).astype(np.float32)
    back = read_map(packed_map(values))
    assert (back.shape, back.dtype) == ((33, 17), np.float32)
    np.testing.assert_allclose(back, values, rtol=0 if scale > 1e6 else 5e-4, atol=1e-7)


def test_smooth_maps_take_little_room() -> None:
    """A map of 256 x 256 as matching gives it takes less than half of its float32 values."""
    x, y = np.mgrid[:256, :256] / 256
    values = (np.sin(9 * x) * np.cos(7 * y)).astype(np.float32)
    assert len(packed_map(values)) < values.nbytes / 2


@pytest.mark.parametrize("data", [b"", b"junk", zlib.compress(b"junk"), zlib.compress(b"")])
def test_other_bytes_are_refused(data: bytes) -> None:
    """Bytes that are no map are one sentence."""
    with pytest.raises(ParameterError, match="no anomaly map"):
        read_map(data)


def test_nothing_is_unpickled() -> None:
    """An array of Python objects, which would have to be unpickled, is refused."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ParameterError, match="no anomaly map"):
        read_map(zlib.compress(buffer.getvalue()))
