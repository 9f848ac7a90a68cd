"""From an exported bundle's parts to an engine."""

from __future__ import annotations

from collections.abc import Callable

from blemish.bundle import GraphsRecord, Manifest, Tensors, check_templates, fitting_together
from blemish.engine import Engine, TiledEngine, tiling_of, untiled
from blemish.errors import BundleError, ParameterError
from blemish.runtime.matching import MatchingEngine, level_bank
from blemish.runtime.network import NetworkEngine
from blemish.runtime.sessions import OnnxSession, Session, open_openvino

MEBIBYTE = 1 << 20


def graph_engine(
    manifest: Manifest,
    read: Callable[[str], bytes],
    tensors: Callable[[str], Tensors],
    where: str,
    *,
    memory: int | None = None,
) -> Engine:
    """The engine of a version's whole state, before its steps.

    `read` and `tensors` give a part's checked bytes and tensors; `where` names the bundle in
    errors. `memory`, in MiB, is what the templates may take: they must lie in memory here, so a
    set that is larger is refused.
    """
    record = manifest.graphs
    if record is None:
        raise BundleError(f"{where} has no graphs; export it with: blemish export")

    def session(role: str) -> Session:
        return _session(record, role, read, where)

    if "network" in record.parts:
        return NetworkEngine(
            manifest.method,
            record,
            manifest.parameters,
            session("network"),
            manifest.whole_templates,
        )
    templates = tensors("templates")
    _check_memory(templates, memory, where)
    check_templates(manifest, templates, where)
    features, match = session("features"), session("match")

    def engine(own: Tensors) -> MatchingEngine:
        with fitting_together(where):
            banks = [level_bank(level, own, where) for level in record.levels]
            return MatchingEngine(
                manifest.method,
                record,
                manifest.parameters,
                features,
                match,
                banks,
                manifest.whole_templates,
            )

    tiling = tiling_of(manifest)
    if tiling is None:
        return engine(templates)
    return TiledEngine([engine(own) for own in untiled(templates, len(tiling))], tiling)


def _session(record: GraphsRecord, role: str, read: Callable[[str], bytes], where: str) -> Session:
    part = record.parts.get(role)
    if part is None:
        raise BundleError(f"{where} has no graph '{role}'; export the bundle again")
    weights = record.parts.get(f"{role}-weights")
    if weights is None:
        return OnnxSession(read(part), f"{part} of {where}")
    return open_openvino(record.precision, read(part), read(weights), f"{part} of {where}")


def _check_memory(templates: Tensors, memory: int | None, where: str) -> None:
    needed = sum(values.size for values in templates.values()) * 4 / MEBIBYTE
    if memory is not None and needed > memory:
        raise ParameterError(
            f"memory: the templates of {where} take {needed:.0f} MiB, {memory} are allowed; an "
            "exported bundle holds them in memory, so allow more, or export one with fewer sheets"
        )
