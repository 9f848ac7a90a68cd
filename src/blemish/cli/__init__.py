"""The command line: one file a verb.

Exit status: 0 done (inspect, compare: all pass; data check: complete), 1 found wanting (parts to
review or fail, a figure below its floor, an incomplete dataset), 2 an error, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from blemish._version import __version__
from blemish.cli import (
    bench,
    calibrate,
    check,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    fit,
    inspect,
    pack,
    score,
    serve,
    update,
    weights,
)
from blemish.errors import BlemishError

# Newer typer ships its own copy of click: this is the base of usage errors in either.
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="blemish",
    help="Find what is wrong with manufactured parts by comparing them with golden samples.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit")(fit.fit)
app.command("inspect")(inspect.inspect)
app.command("calibrate")(calibrate.calibrate)
app.command("update", cls=update.ManyValues)(update.update)
app.command("pack")(pack.pack)
app.command("unpack")(pack.unpack)
app.command("evaluate")(evaluate.evaluate)
app.command("check")(check.check)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("compare")(compare.compare)
app.command("serve")(serve.serve)
app.add_typer(serve.tokens, name="token")
app.command("score")(score.score)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(bench.app, name="bench")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"blemish {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: errors become one sentence on stderr and a documented exit status."""
    try:
        status = app(standalone_mode=False)
    except BlemishError as error:
        typer.echo(f"blemish: {error}", err=True)
        status = 2
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "torchvision", "timm", "sklearn"}:
            raise
        typer.echo(
            f"blemish: this needs the package '{error.name}', which is not installed; "
            "install it with: pip install 'blemish[train]'",
            err=True,
        )
        status = 2
    except UsageError as error:
        error.show()
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); say nothing more, not even at exit.
        sys.stdout = None
        status = 141
    if status == 130:  # which newer typer returns for Ctrl-C instead of raising
        typer.echo("blemish: stopped; nothing half-written was left behind", err=True)
    sys.exit(status)
