"""The JSON Schema of results: what the station answers and sends is as it says, and no less."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from line_tools import FAIL, PASS, REVIEW, Redness, encoded, made, shelve

from blemish.inspector import Inspector
from blemish.station.core import Station
from blemish.station.inspecting import Part
from blemish.station.results import RESULT_SCHEMA, SCHEMA, result_to_dict
from blemish.station.store import now
from blemish.station.store.tables import DecisionRow


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The file that is shipped."""
    found: dict[str, Any] = json.loads(RESULT_SCHEMA.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Checks formats, too."""
    return Draft202012Validator(schema, format_checker=FormatChecker())


def judged(station: Station, data: bytes, **more: Any) -> dict[str, Any]:
    """A recorded result as JSON would carry it."""
    found, _ = station.inspecting.inspect(Part("board", data, **more))
    result: dict[str, Any] = json.loads(json.dumps(result_to_dict(found)))
    return result


def test_the_schema_is_one_itself(schema: dict[str, Any]) -> None:
    """It is valid, of 2020-12, and names the version that results name."""
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize("data", [encoded(PASS), encoded(REVIEW), encoded(FAIL), b"none", b""])
def test_results_of_every_verdict_are_valid(
    tmp_path: Path, schema: dict[str, Any], validator: Draft202012Validator, data: bytes
) -> None:
    """Each key of a result is in the schema, each required one in the result, each value right."""
    with made(tmp_path) as station:
        for told in (
            {},
            {"part_id": "p", "correlation_id": "c", "image": "i", "metadata": {"a": [1]}},
        ):
            result = judged(station, data, **told)
            validator.validate(result)
            assert set(result) - {"error"} == set(schema["required"])
            assert set(result) <= set(schema["properties"])


def test_results_of_a_real_inspector_and_a_decision_are_valid(
    tmp_path: Path, fitted: Inspector, parts: Path, validator: Draft202012Validator
) -> None:
    """Regions, p-values, timings and what a person said, as they really are."""
    with made(tmp_path) as station:
        shelve(station, fitted)
        images = sorted((parts / "test").glob("[!g]*/*.png"))
        tried = [station.inspecting.inspect(Part("board", one.read_bytes()))[0] for one in images]
        found = next(one for one in tried if one.row.regions)
        decision = DecisionRow(
            id="x", inspection_id=found.row.id, decision="fail", by="ada", note="", decided_at=now()
        )
        result = result_to_dict(replace(found, decision=decision))
        validator.validate(json.loads(json.dumps(result)))
        assert result["regions"]
        assert result["p_value"] is not None


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no id": lambda one: one.pop("id"),
    "an id that is none": lambda one: one.update(id="1"),
    "another version": lambda one: one.update(schema="blemish.result/2"),
    "an unknown verdict": lambda one: one.update(verdict="good"),
    "no score": lambda one: one.update(score=None),
    "an error and a verdict": lambda one: one.update(error={"code": "a", "message": "b"}),
    "an error that is not told": lambda one: one.update(verdict="error", score=None, map_url=None),
    "a p-value beyond 1": lambda one: one.update(p_value=1.5),
    "one side": lambda one: one.update(image_size=[8]),
    "three sides": lambda one: one.update(image_size=[8, 8, 3]),
    "a time that is none": lambda one: one.update(recorded_at=5),
    "a checksum that is none": lambda one: one.update(image_sha256="abc"),
    "a box of three": lambda one: one.update(regions=[{"box": [1, 2, 3], "area": 1, "peak": 1}]),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_no_result_is_invalid(
    tmp_path: Path, validator: Draft202012Validator, name: str
) -> None:
    """The schema says no to what a receiver could not rely on."""
    with made(tmp_path, Redness()) as station:
        result = judged(station, encoded(PASS))
    assert validator.is_valid(result)
    BREAKS[name](result)
    assert not validator.is_valid(result)
