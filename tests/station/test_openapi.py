"""The API is as its description says, whatever it is asked (Schemathesis)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from blemish.station.api import create_app  # noqa: E402
from blemish.station.core import Station  # noqa: E402
from blemish.station.settings import read_settings  # noqa: E402
from station.conftest import HERE, png  # noqa: E402

EXAMPLES = 12  # an operation; `station.schemathesis --examples N` in the shell for more


@pytest.fixture(scope="module")
def described(
    fitted: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, str]]]:
    """The description of a station in which something has happened, and an admin's headers."""
    folder = tmp_path_factory.mktemp("bundles")
    name = fitted.name
    fitted.save(folder / "board.blemish")
    fitted.name = name
    with Station(read_settings(folder, name="line-1", device="cpu", anonymous=False)) as station:
        headers = {"Authorization": f"Bearer {station.people.give('anna', 'admin')}"}
        app = create_app(station, manage=False)
        who = TestClient(app, base_url=HERE, headers=headers)
        who.post("/api/v1/inspections", data={"inspector": "board"}, files={"image": png(1)})
        schema = schemathesis.openapi.from_asgi(
            "/api/v1/openapi.json", app, headers={"Host": "127.0.0.1"}
        )
        yield schema, headers | {"Host": "127.0.0.1"}


def test_every_operation_answers_as_described(described: tuple[Any, dict[str, str]]) -> None:
    """No crash, no undescribed status, media type or shape, nothing wrong taken for right."""
    schema, headers = described
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def holds(case: Any) -> None:
            # What a schema cannot say (metadata is JSON, a rate that can be promised) is a 422 too.
            case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

        holds()
