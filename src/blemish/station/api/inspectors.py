"""Inspectors: their versions, templates and thresholds; hot update and rollback."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from starlette.responses import JSONResponse, Response

from blemish.errors import ParameterError
from blemish.imaging import encode_png
from blemish.inspector.detection import draw_detection
from blemish.station.api import schemas
from blemish.station.api.access import Engineer, Here, Viewer
from blemish.station.api.problems import responses
from blemish.station.errors import UnknownError
from blemish.station.results import moment
from blemish.station.shelf import Held
from blemish.station.store.tables import ChangeRow, RegressionRow
from blemish.verdict import Rule

router = APIRouter(tags=["inspectors"])

_LOOK = responses(401, 404, 422, 503)
_CHANGE = responses(401, 403, 404, 409, 422, 503)


@router.get("/inspectors", response_model=list[schemas.InspectorOut], responses=responses(401, 503))
def list_inspectors(station: Here, person: Viewer) -> Any:
    """The inspectors of this station, and the bundles that cannot be used."""
    good = [inspector_to_dict(held) for held in station.shelf.held]
    bad = [{"name": one.name, "problem": one.problem} for one in station.shelf.broken]
    return [*good, *bad]


@router.get("/inspectors/{name}", response_model=schemas.InspectorOut, responses=_LOOK)
def get_inspector(station: Here, person: Viewer, name: schemas.InspectorName) -> Any:
    """One inspector."""
    return inspector_to_dict(station.shelf.get(name))


@router.get("/inspectors/{name}/versions", response_model=list[schemas.VersionOut], responses=_LOOK)
def list_versions(station: Here, person: Viewer, name: schemas.InspectorName) -> Any:
    """Every version, newest first."""
    history = station.shelf.get(name).inspector.history
    return JSONResponse([entry.to_dict() for entry in reversed(history)])


@router.get(
    "/inspectors/{name}/templates", response_model=list[schemas.TemplateOut], responses=_LOOK
)
def list_templates(station: Here, person: Viewer, name: schemas.InspectorName) -> Any:
    """The templates of the live version."""
    templates = station.shelf.get(name).inspector.templates
    return [
        {key: getattr(one, key) for key in schemas.TemplateOut.model_fields} for one in templates
    ]


@router.get(
    "/inspectors/{name}/templates/{template}.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **_LOOK},
)
def get_template(
    station: Here, person: Viewer, name: schemas.InspectorName, template: str
) -> Response:
    """A template's picture as the detector sees it."""
    picture = station.shelf.get(name).inspector.picture(template)
    return Response(encode_png(picture), media_type="image/png")


@router.get(
    "/inspectors/{name}/detection.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **_LOOK},
)
def get_detection(station: Here, person: Viewer, name: schemas.InspectorName) -> Response:
    """Where on the part synthetic defects pass, as a picture; 404 where that was never asked."""
    inspector = station.shelf.get(name).inspector
    found = inspector.detection
    if found is None:
        raise UnknownError(f"what the inspector '{name}' finds was not asked when it was fitted")
    picture = draw_detection(inspector.snapshot(), found, words=False)
    return Response(encode_png(picture), media_type="image/png")


@router.get("/inspectors/{name}/changes", response_model=list[schemas.ChangeOut], responses=_LOOK)
def list_changes(station: Here, person: Viewer, name: schemas.InspectorName) -> Any:
    """What was changed through stations, or refused, newest first."""
    station.shelf.get(name)
    return [change_to_dict(row) for row in station.reviewing.changes(name)]


@router.get(
    "/inspectors/{name}/regression",
    response_model=list[schemas.RegressionPartOut],
    responses=_LOOK,
)
def list_regression(station: Here, person: Viewer, name: schemas.InspectorName) -> Any:
    """The regression set: parts that no new version may judge worse."""
    station.shelf.get(name)
    return [regression_to_dict(row) for row in station.reviewing.regression(name)]


@router.delete("/regression/{id}", status_code=204, responses=_CHANGE)
def forget_regression(station: Here, person: Engineer, id: schemas.Id) -> Response:
    """Take a part out of its regression set."""
    station.reviewing.forget_regression(id, person)
    return Response(status_code=204)


@router.post("/inspectors/{name}/thresholds", response_model=schemas.ChangeOut, responses=_CHANGE)
def set_thresholds(
    station: Here, person: Engineer, name: schemas.InspectorName, told: schemas.ThresholdsIn
) -> Any:
    """Set the thresholds by a promise, or by hand; nothing is learned again."""
    rule = Rule(
        false_alarm_rate=told.false_alarm_rate,
        confidence=told.confidence,
        review_rate=told.review_rate,
        threshold=told.threshold,
        review_threshold=told.review_threshold,
    )
    change = station.reviewing.set_thresholds(name, rule, person, told.note, force=told.force)
    return change_to_dict(change)


@router.post(
    "/inspectors/{name}/updates",
    response_model=schemas.ChangeOut,
    responses=_CHANGE | responses(413, 507),
)
def update_inspector(
    station: Here,
    person: Engineer,
    name: schemas.InspectorName,
    add: Annotated[list[UploadFile] | None, File(description="Good images to learn.")] = None,
    remove: Annotated[
        list[str] | None, Form(description="Ids of templates to forget, perhaps cut short.")
    ] = None,
    note: Annotated[str, Form(max_length=2000)] = "",
    force: Annotated[bool, Form()] = False,
) -> Any:
    """Learn good images and forget templates: a new version, which goes live at once."""
    if add is not None and len(add) > station.settings.limits.batch:
        raise ParameterError(f"give at most {station.settings.limits.batch} images at once")
    images = [upload.file.read() for upload in add or []]
    change = station.reviewing.update(
        name, person, add=images, remove=remove or [], note=note, force=force
    )
    return change_to_dict(change)


@router.post("/inspectors/{name}/rollback", response_model=schemas.ChangeOut, responses=_CHANGE)
def roll_back(
    station: Here, person: Engineer, name: schemas.InspectorName, told: schemas.RollbackIn
) -> Any:
    """Bring an older version back, as a new one."""
    change = station.reviewing.roll_back(name, told.version, person, told.note, force=told.force)
    return change_to_dict(change)


def inspector_to_dict(held: Held) -> dict[str, Any]:
    """An inspector for JSON."""
    live = held.live
    return {
        "name": held.name,
        "version": live.version,
        "created": live.created,
        "bundle_sha256": live.bundle_sha256,
        "templates": len(held.inspector.templates),
        "thresholds": asdict(live.thresholds),
    }


def change_to_dict(row: ChangeRow) -> dict[str, Any]:
    """A change for JSON."""
    names = ("id", "inspector", "station", "kind", "outcome", "before", "after", "by", "note")
    return {
        **{name: getattr(row, name) for name in names},
        "proposed_by": row.proposed_by,
        "changed_at": moment(row.changed_at),
        "notes": row.report["notes"],
        "regression": row.report["regression"],
    }


def regression_to_dict(row: RegressionRow) -> dict[str, Any]:
    """A part of the regression set for JSON."""
    names = ("id", "inspector", "inspection_id", "expected", "added_by", "note")
    return {**{name: getattr(row, name) for name in names}, "added_at": moment(row.added_at)}
