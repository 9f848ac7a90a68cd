"""The API's description as a page of our own: the usual ones load scripts from elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from blemish.station.api.access import Viewer
from blemish.station.pages.rendering import page

router = APIRouter()


@dataclass(frozen=True)
class Operation:
    """One thing that the API does."""

    method: str
    path: str
    name: str
    about: str
    parameters: list[dict[str, Any]]
    body: list[dict[str, Any]]
    media: str | None
    answers: list[tuple[str, str, str | None]]  # status, what it means, the schema's name


@router.get("/docs")
def docs_page(request: Request, person: Viewer) -> Response:
    """Every operation and every schema."""
    told = request.app.openapi()
    schemas = told.get("components", {}).get("schemas", {})
    shown = {name: _fields(schema, schemas) for name, schema in sorted(schemas.items())}
    return page(
        request, person, "docs.html", title=told["info"]["title"],
        about=told["info"]["description"].strip().split("\n\n"), groups=_groups(told),
        schemas=shown, address=request.app.openapi_url,
    )  # fmt: skip


def _groups(told: dict[str, Any]) -> dict[str, list[Operation]]:
    schemas = told.get("components", {}).get("schemas", {})
    groups: dict[str, list[Operation]] = {}
    for path, methods in told["paths"].items():
        for method, one in methods.items():
            tag = (one.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, one, schemas))
    return groups


def _operation(method: str, path: str, told: dict[str, Any], schemas: dict[str, Any]) -> Operation:
    content = told.get("requestBody", {}).get("content", {})
    media = next(iter(content), None)
    body = [] if media is None else _fields(content[media]["schema"], schemas)
    parameters = [
        {
            "name": one["name"], "where": one["in"], "required": one.get("required", False),
            "type": _type(one.get("schema", {})), "about": one.get("description", ""),
        }
        for one in told.get("parameters", [])
        if one["in"] != "cookie"
    ]  # fmt: skip
    answers = [
        (status, answer.get("description", ""), _answered(answer))
        for status, answer in told.get("responses", {}).items()
    ]
    return Operation(
        method.upper(), path, told.get("operationId", path), told.get("description", ""),
        parameters, body, media, answers,
    )  # fmt: skip


def _answered(answer: dict[str, Any]) -> str | None:
    content: dict[str, Any] = next(iter(answer.get("content", {}).values()), {})
    return _type(content.get("schema", {})) or None


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an object's schema."""
    if "$ref" in schema:
        schema = schemas.get(schema["$ref"].rsplit("/", 1)[-1], {})
    needed = schema.get("required", [])
    return [
        {
            "name": name, "where": "", "type": _type(one), "required": name in needed,
            "about": one.get("description", ""),
        }
        for name, one in schema.get("properties", {}).items()
    ]  # fmt: skip


def _type(schema: dict[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(json.dumps(one) for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {})) or 'anything'}"
    kind = {"file": "file", "date-time": "time"}.get(
        schema.get("format", ""), schema.get("type", "")
    )
    if schema.get("contentMediaType") or schema.get("format") == "binary":
        return "file"
    return str(kind)
