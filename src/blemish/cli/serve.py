"""`blemish serve` and `blemish token`: the station, and who may use it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.errors import MissingExtraError, NoImagesError

if TYPE_CHECKING:
    from blemish.station.people import People
    from blemish.station.settings import Settings

Bundles = Annotated[
    Path,
    typer.Argument(
        metavar="DIR_OF_BUNDLES", help="The folder of bundles; settings: its station.toml."
    ),
]
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="sqlite:///FILE or postgresql://USER@HOST/NAME. [default: SQLite beside the bundles]",
    ),
]

tokens = typer.Typer(
    help="Who may use the station: viewer, operator, engineer, admin.", no_args_is_help=True
)


def serve(
    bundles: Bundles,
    db: Db = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Where to listen. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="0: any that is free. [default: 8000]")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What results call this station. [default: this machine's]"),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu or cuda. [default: auto]")
    ] = None,
) -> None:
    """Run the station: API, review pages, sources and sinks, until Ctrl-C."""
    settings = _settings(bundles, db=db, host=host, port=port, name=name, device=device)
    from blemish.station.core import Station
    from blemish.station.serving import serve as serve_station

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("blemish").setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    station = Station(settings)
    if not station.shelf.held:
        first = station.shelf.broken[0].problem if station.shelf.broken else ""
        raise NoImagesError(
            f"{bundles} holds no bundle that can be used{': ' + first if first else ''}; make one "
            f"there: blemish fit GOOD_DIR -o {bundles / 'part.blemish'}"
        )
    serve_station(station)


@tokens.command("give")
def give(
    bundles: Bundles,
    person: Annotated[str, typer.Argument(metavar="NAME", help="Who: results bear this name.")],
    role: Annotated[
        str, typer.Option("--role", help="viewer, operator, engineer or admin.")
    ] = "operator",
    db: Db = None,
) -> None:
    """Give somebody a token; it is printed this once."""
    typer.echo(_people(bundles, db).give(person, role))


@tokens.command("list")
def list_(bundles: Bundles, db: Db = None) -> None:
    """Who has a token, or had one."""
    for token in _people(bundles, db).tokens():
        state = "taken away" if token.revoked else token.role
        typer.echo(f"{token.name}\t{state}\t{token.created_at}")


@tokens.command("revoke")
def revoke(
    bundles: Bundles,
    person: Annotated[str, typer.Argument(metavar="NAME", help="Whose token.")],
    db: Db = None,
) -> None:
    """Take a token away; its bearer is signed out everywhere."""
    _people(bundles, db).take_away(person)


def _people(bundles: Path, db: str | None) -> People:
    settings = _settings(bundles, db=db)
    from blemish.station.people import People
    from blemish.station.store import Database

    database = Database(settings.database)
    database.migrate()
    return People(database, settings.session_hours)


def _settings(bundles: Path, **given: object) -> Settings:
    try:
        import alembic  # noqa: F401
        import fastapi  # noqa: F401
        import sqlalchemy  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the station needs the package '{error.name}', which is not installed; install it "
            "with: pip install 'blemish[station]'"
        ) from error
    from blemish.station.settings import read_settings

    return read_settings(bundles, **given)
