"""Write docs/cli.md from the command line itself; a test checks that the page is current."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from blemish.cli import app

TARGET = Path(__file__).with_name("cli.md")
HEAD = """# Command line

Written by `python docs/generate_cli.py` from the command line itself.

Exit status: 0 done (`inspect`: all pass), 1 `inspect` found parts to review or fail, 2 an error
(one sentence on stderr), 130 stopped by Ctrl-C. Results go to stdout or the file asked for;
progress and remarks go to stderr, and bars only to a terminal.

`inspect` prints, per image, one line of JSON:

```json
{"image": "new/7.png", "score": 0.71, "p_value": 0.0048, "threshold": 0.31, "verdict": "fail",
 "regions": [{"box": [92, 65, 40, 31], "area": 870, "peak": 0.71}],
 "inspector": "part", "version": 1, "latency_ms": 92.4}
```

and for one that cannot be read

```json
{"image": "new/8.png", "verdict": "error",
 "error": {"code": "image_truncated", "message": "..."}}
```

At a terminal without `--json` it prints a line for people instead.
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
    if options:
        lines += ["| option | does |", "|---|---|"]
        lines += [f"| `{_names(p)}` | {_describe(p)} |" for p in options]
        lines.append("")
    return "\n".join(lines)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(parameter: Any) -> str:
    names = "`, `".join(parameter.opts)
    return f"{names} {parameter.metavar}" if parameter.metavar else names


def _describe(parameter: Any) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.default
    if default not in (None, False) and "[default" not in text and not callable(default):
        text += f" [default: {default}]"
    return text + (" Required." if parameter.required else "")


if __name__ == "__main__":
    TARGET.write_text(render())
