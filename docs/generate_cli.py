"""Write docs/cli.md from the command line itself; a test checks that the page is current."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from blemish.cli import app

TARGET = Path(__file__).with_name("cli.md")
HEAD = """# Command line

Written by `python docs/generate_cli.py` from the command line itself.

| status | all verbs | `inspect`, `compare` | `data check` | `evaluate` | `score`, `fit --table` |
|---|---|---|---|---|---|
| 0 | done | all pass | complete | no figure below `--fail-under` | all done |
| 1 | - | some to review or fail | not complete | some figure below it | - |
| 2 | an error, one sentence on stderr | some image had one, others were done | | | some had one |
| 130 | stopped by Ctrl-C | (not `inspect` of a stream, nor `serve`: that is their end) | | | |
| 141 | whoever read our output has gone | | | | |

Results go to stdout or the file asked for; progress and remarks go to stderr, and bars only to a
terminal.

`inspect` prints, per image, one line of JSON:

```json
{"image": "new/7.png", "score": 0.71, "p_value": 0.0048, "threshold": 0.31,
 "review_threshold": null, "verdict": "fail", "reason": null,
 "regions": [{"box": [92, 65, 40, 31], "area": 870, "peak": 0.71, "template": "3fa9c1..."}],
 "inspector": "part", "version": 1, "latency_ms": 92.4}
```

`reason` says why a person must decide where the verdict is `review`
([calibration](calibration.md)).

One that cannot be read gives

```json
{"image": "new/8.png", "verdict": "error",
 "error": {"code": "image_truncated", "message": "..."}}
```

`inspect --watch`, `--video` and `--camera` inspect a stream ([streams](streams.md)). They add
`time`
to the object and to the end of the file of `--json`, a line as soon as a part is judged. Ctrl-C and
SIGTERM are the normal end of a stream: what was read is still judged, and the status is 0, 1 or 2
by the results so far; a second one stops at once.

At a terminal without `--json` it prints a line for people instead. `compare` prints the same
object and `golden`, its `p_value` null. `update --add`, `--remove` and `--good` take all words up
to the next option.
"""


def render() -> str:
    """The whole page."""
    sections = [HEAD]
    for name, command in _commands(typer.main.get_command(app), "blemish"):
        sections.append(_section(name, command))
    return "\n".join(sections)


def _commands(command: Any, name: str) -> list[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [(name, command)]
    return [
        found
        for child, sub in sorted(children.items())
        for found in _commands(sub, f"{name} {child}")
    ]


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([name, *(_metavar(p) for p in arguments)])
    lines = [f"## `{usage}`", "", " ".join(command.help.split()), ""]
    told = [p for p in arguments if getattr(p, "help", None)]
    if told or options:
        lines += ["| option | does |", "|---|---|"]
        lines += [f"| `{_cell(_metavar(p))}` | {_cell(p.help)} |" for p in told]
        lines += [f"| `{_names(p)}` | {_describe(p)} |" for p in options]
        lines.append("")
    return "\n".join(lines)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(parameter: Any) -> str:
    names = "`, `".join(parameter.opts)
    return f"{names} {_cell(parameter.metavar)}" if parameter.metavar else names


def _describe(parameter: Any) -> str:
    text = _cell(parameter.help or "")
    default = parameter.default
    if default not in (None, False, "") and "[default" not in text and not callable(default):
        text += f" [default: {default}]"
    return text + (" Required." if parameter.required else "")


def _cell(text: str) -> str:
    """Text for a cell of a table, where a bar would end the cell, even in code."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render())
