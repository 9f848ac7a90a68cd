"""Send parts and look them up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from itertools import chain
from typing import Annotated, Any

import numpy as np
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, File, Form, Header, Query, UploadFile
from starlette.responses import JSONResponse, Response, StreamingResponse

from blemish.errors import ParameterError
from blemish.station.api import schemas
from blemish.station.api.access import Here, Operator, Viewer
from blemish.station.api.problems import responses
from blemish.station.core import Station
from blemish.station.drawing import overlay_png
from blemish.station.errors import LateError
from blemish.station.inspecting import Part
from blemish.station.people import Person
from blemish.station.results import result_to_dict
from blemish.station.store import Filter, Judged
from blemish.station.store.exporting import csv_chunks, parquet_chunks
from blemish.station.store.inspections import find, listed

router = APIRouter(tags=["inspections"])

PARQUET = "application/vnd.apache.parquet"

Metadata = Annotated[str, Form(description="A JSON object: what else is to be on record.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255,
        description="The same key with the same request never records a part twice.",
    ),
]  # fmt: skip


@router.post(
    "/inspections",
    status_code=201,
    response_model=schemas.InspectionOut,
    responses=responses(401, 403, 404, 413, 422, 429, 503, 507),
)
async def inspect(
    station: Here,
    person: Operator,
    image: Annotated[UploadFile, File(description="An image file.")],
    inspector: Annotated[str, Form(min_length=1, max_length=255)],
    part_id: Annotated[str | None, Form(min_length=1, max_length=255)] = None,
    correlation_id: Annotated[str | None, Form(min_length=1, max_length=255)] = None,
    metadata: Metadata = "",
    key: Key = None,
) -> Response:
    """Inspect a part and put it on record; the answer comes once it is.

    An image that cannot be read gives the verdict `error`, and is on record too.
    """
    part = Part(
        inspector=inspector,
        data=await image.read(),
        image=image.filename or None,
        part_id=part_id,
        correlation_id=correlation_id,
        metadata=_metadata(metadata),
        request_key=_request_key(person, key),
    )
    judged, created = await _inspected(station, part)
    found = result_to_dict(judged)
    headers = {"Location": f"/api/v1/inspections/{judged.row.id}"}
    if not created:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(found, 201, headers)


@router.post(
    "/inspections/batch",
    status_code=201,
    response_model=schemas.Batch,
    responses=responses(401, 403, 404, 413, 422, 429, 503, 507),
)
async def inspect_batch(
    station: Here,
    person: Operator,
    images: Annotated[list[UploadFile], File(description="Image files.")],
    inspector: Annotated[str, Form(min_length=1, max_length=255)],
    part_ids: Annotated[
        str, Form(description="A JSON list of the parts' ids, in the images' order.")
    ] = "",
    metadata: Metadata = "",
    key: Key = None,
) -> Response:
    """Inspect several parts, one after another, each as by itself.

    After an error those before it are on record: send the same request with the same key again.
    """
    if len(images) > station.settings.limits.batch:
        raise ParameterError(
            f"a batch may have {station.settings.limits.batch} images, this one has {len(images)}; "
            "send several"
        )
    ids = _part_ids(part_ids, len(images))
    told = _metadata(metadata)
    found = []
    for index, (image, part_id) in enumerate(zip(images, ids, strict=True)):
        part = Part(
            inspector=inspector,
            data=await image.read(),
            image=image.filename or None,
            part_id=part_id,
            metadata=told,
            request_key=_request_key(person, key, index),
        )
        judged, _ = await _inspected(station, part)
        found.append(result_to_dict(judged))
    return JSONResponse({"inspections": found}, 201)


def wanted_of(
    inspector: Annotated[str | None, Query(max_length=255)] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    verdict: schemas.Verdict | None = None,
    decision: schemas.Saying | None = None,
    decided: bool | None = None,
    station_name: Annotated[str | None, Query(alias="station", max_length=255)] = None,
    source: Annotated[str | None, Query(max_length=255)] = None,
    part_id: Annotated[str | None, Query(max_length=255)] = None,
    image_sha256: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
) -> Filter:
    """Which inspections the request is about."""
    return Filter(
        inspector=inspector, version=version, verdict=verdict, decision=decision, decided=decided,
        station=station_name, source=source, part_id=part_id, image_sha256=image_sha256,
        since=since, until=until, min_score=min_score, max_score=max_score,
    )  # fmt: skip


Wanted = Annotated[Filter, Depends(wanted_of)]


@router.get(
    "/inspections", response_model=schemas.InspectionPage, responses=responses(401, 422, 503)
)
def list_inspections(
    station: Here,
    person: Viewer,
    wanted: Wanted,
    cursor: schemas.Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Any:
    """Inspections, newest first."""
    page = listed(station.database, wanted, limit=limit, after=cursor)
    return JSONResponse(
        {"inspections": [result_to_dict(one) for one in page.inspections], "next": page.following}
    )


@router.get(
    "/inspections.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}}, **responses(401, 422, 503)},
)
def export_csv(station: Here, person: Viewer, wanted: Wanted) -> Response:
    """All inspections that fit, with what people said of them, as CSV."""
    return _download(csv_chunks(station.database, wanted), "text/csv", "inspections.csv")


@router.get(
    "/inspections.parquet",
    response_class=StreamingResponse,
    responses={200: {"content": {PARQUET: {}}}, **responses(401, 422, 503)},
)
def export_parquet(station: Here, person: Viewer, wanted: Wanted) -> Response:
    """The same as a Parquet file."""
    return _download(parquet_chunks(station.database, wanted), PARQUET, "inspections.parquet")


@router.get(
    "/inspections/{id}",
    response_model=schemas.InspectionOut,
    responses=responses(401, 404, 422, 503),
)
def get_inspection(station: Here, person: Viewer, id: schemas.Id) -> Any:
    """One inspection."""
    return JSONResponse(result_to_dict(find(station.database, id)))


@router.get(
    "/inspections/{id}/overlay.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **responses(401, 404, 422, 503)},
)
def get_overlay(
    station: Here,
    person: Viewer,
    id: schemas.Id,
    opacity: Annotated[float, Query(ge=0, le=1)] = 0.5,
    heat: Annotated[bool, Query(description="Only the heat, on nothing.")] = False,
) -> Response:
    """The image with its heat map, outlines and boxes."""
    judged = find(station.database, id)
    data = overlay_png(
        judged, station.pictures, opacity=opacity, only_heat=heat,
        bit_depth=station.shelf.bit_depth(judged.row.inspector),
    )  # fmt: skip
    return Response(data, media_type="image/png", headers=_kept_for_long())


@router.get(
    "/inspections/{id}/image",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}}, **responses(401, 404, 422, 503)
    },
)  # fmt: skip
def get_image(station: Here, person: Viewer, id: schemas.Id) -> Response:
    """The image as it came, byte by byte."""
    row = find(station.database, id).row
    headers = {**_kept_for_long(), "Content-Disposition": f'attachment; filename="{row.id}"'}
    data = station.pictures.image(row.image_sha256)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get(
    "/inspections/{id}/map.npy",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}}, **responses(401, 404, 422, 503)
    },
)  # fmt: skip
def get_map(station: Here, person: Viewer, id: schemas.Id) -> Response:
    """The anomaly map [h, w], float32, as NumPy's file."""
    row = find(station.database, id).row
    buffer = BytesIO()
    np.save(buffer, station.pictures.map(row.map_sha256 or ""), allow_pickle=False)
    return Response(
        buffer.getvalue(), media_type="application/octet-stream", headers=_kept_for_long()
    )


def _download(chunks: Iterator[tuple[bytes, int]], media: str, name: str) -> Response:
    """A file that is made while it is sent, however many inspections it has."""
    first = next(chunks)  # what is wrong is told with a status rather than by an end too soon
    pieces = (data for data, _ in chain([first], chunks))
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type=media, headers=headers)


async def _inspected(station: Station, part: Part) -> tuple[Judged, bool]:
    """The result once it is on record; the event loop goes on meanwhile."""
    future = await run_sync(station.inspecting.submit, part)
    seconds = station.settings.limits.timeout_s
    try:
        # Shielded: whoever no longer waits can ask again with the same key.
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), seconds)
    except TimeoutError as error:
        raise LateError(
            f"the inspection was not done within {seconds:g} s; it goes on: ask again with the "
            "same Idempotency-Key",
            retry_after=1,
        ) from error


def _request_key(person: Person, key: str | None, index: int | None = None) -> str | None:
    """Keys are each sender's own; the images of a batch have one each."""
    if key is None:
        return None
    return hashlib.sha256(json.dumps([person.name, key, index]).encode()).hexdigest()


def _metadata(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"metadata: this is not JSON ({error}); give an object") from error
    if not isinstance(found, dict):
        raise ParameterError("metadata: give a JSON object")
    if len(text) > 65536:
        raise ParameterError("metadata: give at most 65536 characters")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _part_ids(text: str, count: int) -> list[str | None]:
    if not text:
        return [None] * count
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"part_ids: this is not JSON ({error}); give a list") from error
    fits = isinstance(found, list) and all(isinstance(one, str | None) for one in found)
    if not fits or len(found) != count:
        raise ParameterError(f"part_ids: give a list of {count} texts, one an image")
    return list(found)


def _kept_for_long() -> dict[str, str]:
    return {"Cache-Control": "private, max-age=86400, immutable"}
