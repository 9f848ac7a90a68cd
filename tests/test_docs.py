"""The documents are true: their Python runs, their commands exist, their pages are current."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

import blemish
from blemish.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
# These say where a formula, a contract or a rule stands, so they name files by their whole paths.
GUIDES = [
    *LINKED[-3:-1], ROOT / "docs/architecture.md", *sorted((ROOT / "docs/methods").glob("*.md"))
]  # fmt: skip
PROJECT_FILE = re.compile(r"`((?:src|tests|docs|benchmarks)/[^`*<>{} ]+)`")
CITED = re.compile(r"\bdocs/[a-z_/]+\.md\b")
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def commands() -> dict[str, object]:
    """Every verb and sub-verb of the command line by its words."""
    root = typer.main.get_command(app)
    found: dict[str, object] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        found[name] = command
        for child, sub in getattr(command, "commands", {}).items():
            found[f"{name} {child}"] = sub
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_run(
    page: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python snippet runs as printed, in a folder with good parts and one to inspect."""
    snippets = SNIPPET.findall(page.read_text())
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "good").symlink_to(next(parts.rglob("train")) / "good")
    part = next((next(parts.rglob("test"))).glob("*/*.png"))
    (tmp_path / "part.png").symlink_to(part)
    monkeypatch.chdir(tmp_path)
    for snippet in snippets:
        exec(compile(snippet, str(page), "exec"), {})
    assert bool(snippets) == ("```python" in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_lines_name_real_commands_and_options(page: Path) -> None:
    """Every `blemish …` line in a shell block uses a verb and options that exist."""
    known = commands()
    for block in SHELL.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["blemish"]:
                continue
            verb = " ".join(words[1:3]) if " ".join(words[1:3]) in known else words[1]
            assert verb in known, f"{page.name}: {line}"
            options = {o for p in known[verb].params for o in p.opts}  # type: ignore[attr-defined]
            unknown = [w for w in words if re.match(r"--?[a-z]", w) and w not in options]
            assert not unknown, f"{page.name}: {line}: no such option: {unknown}"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project has that file at its end."""
    missing = [to for to in LINK.findall(page.read_text()) if not (page.parent / to).exists()]
    assert not missing, f"{page.name} links to {missing}"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """Every `src/...` that a guide names is there, so a file that moves takes its mention along."""
    named = PROJECT_FILE.findall(page.read_text())
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_folders_whose_coverage_is_measured_exist() -> None:
    """The Makefile's CORE names folders that are there."""
    (core,) = re.findall(r"^CORE *:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert all((ROOT / "src" / "blemish" / name).is_dir() for name in core.split())


def test_pages_that_code_cites_exist() -> None:
    """A docstring that sends its reader to a page of docs/ sends them to one that is there."""
    folders = [ROOT / name for name in ("src", "tests", "benchmarks")]
    wrong = {
        f"{file.relative_to(ROOT)}: {page}"
        for folder in folders
        for file in folder.rglob("*.py")
        for page in CITED.findall(file.read_text())
        if not (ROOT / page).is_file()
    }
    assert not wrong


def test_command_line_page_is_current() -> None:
    """docs/cli.md is what docs/generate_cli.py writes now."""
    spec = importlib.util.spec_from_file_location("generate_cli", ROOT / "docs/generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/cli.md").read_text() == module.render()


def test_every_verb_and_option_has_help() -> None:
    """No verb and no option is without a sentence of help."""
    for name, command in commands().items():
        assert command.help, name  # type: ignore[attr-defined]
        for parameter in command.params:  # type: ignore[attr-defined]
            if parameter.param_type_name == "option":
                assert parameter.help, f"{name} {parameter.opts}"


def test_changelog_names_the_version_or_has_unreleased_changes() -> None:
    """The changelog has a section for this version or collects its changes as unreleased."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"[{blemish.__version__}]" in text or "[Unreleased]" in text
