"""The command line: one file a verb.

Exit status: 0 done (inspect: all pass), 1 inspect found parts to review or fail, 2 an error,
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated

import click
import typer

from blemish._version import __version__
from blemish.cli import calibrate, demo, doctor, evaluate, fit, inspect, weights
from blemish.errors import BlemishError

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
app.command("evaluate")(evaluate.evaluate)
app.add_typer(weights.app, name="weights")
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
            "install it with: pip install 'blemish[learn]'",
            err=True,
        )
        status = 2
    except click.ClickException as error:
        error.show()
        status = 2
    except (KeyboardInterrupt, click.Abort):
        typer.echo("blemish: stopped; nothing half-written was left behind", err=True)
        status = 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); say nothing more, not even at exit.
        sys.stdout = None
        status = 141
    sys.exit(status)
