"""The papers' tables and figures, run on what is at hand, beside what the papers print."""

from __future__ import annotations

from blemish.errors import ParameterError
from blemish.train.paper import (
    fig13,
    fig14,
    fig15,
    hetmm,
    table1,
    table2,
    table3,
    table4,
)
from blemish.train.paper.asked import Asked, check_categories, check_settings, parse_data
from blemish.train.paper.cells import Cell, Summary, Table
from blemish.train.paper.results import Results
from blemish.train.paper.running import Outcome, machine_facts, run

__all__ = [
    "Asked",
    "Cell",
    "Outcome",
    "Results",
    "Summary",
    "Table",
    "check_categories",
    "check_settings",
    "names",
    "parse_data",
    "machine_facts",
    "run",
    "tables",
]

_TABLES = {
    "table1": table1.table,
    "table2": table2.table,
    "table3": table3.table,
    "table4": table4.table,
    "fig13": fig13.table,
    "fig14": fig14.table,
    "fig15": fig15.table,
    "hetmm": hetmm.table,
}
ALL = "all"


def names() -> list[str]:
    """What may be asked for, `all` included."""
    return [*_TABLES, ALL]


def tables(name: str) -> list[Table]:
    """The table or figure of this name, or all of them."""
    if name not in names():
        raise ParameterError(f"there is no '{name}' here; choose from: {', '.join(names())}")
    return [make() for make in _TABLES.values()] if name == ALL else [_TABLES[name]()]
