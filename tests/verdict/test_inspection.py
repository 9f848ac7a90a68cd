"""The result of an inspection as the JSON object that the contract fixes."""

from __future__ import annotations

import json

import numpy as np

from blemish.errors import ImageTruncatedError
from blemish.verdict import Inspection, Region, error_to_dict


def test_result_has_the_contract_keys() -> None:
    """The JSON object of one image has these keys, in this order, and plain values."""
    result = Inspection(
        score=1.5,
        p_value=0.05,
        threshold=1.0,
        verdict="fail",
        anomaly_map=np.zeros((4, 4), np.float32),
        regions=(Region((1, 2, 3, 4), 12, 1.5, "00ff"),),
        image="part.png",
        inspector="board",
        version=2,
        latency_ms=12.34567,
        review_threshold=0.5,
        reason="to be looked at",
    )
    assert json.loads(json.dumps(result.to_dict())) == {
        "image": "part.png",
        "score": 1.5,
        "p_value": 0.05,
        "threshold": 1.0,
        "review_threshold": 0.5,
        "verdict": "fail",
        "reason": "to be looked at",
        "regions": [{"box": [1, 2, 3, 4], "area": 12, "peak": 1.5, "template": "00ff"}],
        "inspector": "board",
        "version": 2,
        "latency_ms": 12.346,
    }


def test_error_has_the_contract_keys() -> None:
    """An image that cannot be read gives its name, the verdict `error`, a code and a sentence."""
    assert error_to_dict("x.png", ImageTruncatedError("x.png: cut off.")) == {
        "image": "x.png",
        "verdict": "error",
        "error": {"code": "image_truncated", "message": "x.png: cut off."},
    }
