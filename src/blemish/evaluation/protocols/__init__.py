"""Variations of the protocol: seeds, few shots, noise, continual learning, corruption."""

from blemish.evaluation.protocols.corruption import KINDS, Corruption, corrupt, parse_corruptions
from blemish.evaluation.protocols.evaluation import Evaluation, evaluate
from blemish.evaluation.protocols.floors import Floor, check_categories, parse_floors, shortfalls
from blemish.evaluation.protocols.plan import Plan
from blemish.evaluation.protocols.runs import Run
from blemish.evaluation.protocols.subsets import few_shot, in_steps, with_noise

__all__ = [
    "KINDS",
    "Corruption",
    "Evaluation",
    "Floor",
    "Plan",
    "Run",
    "check_categories",
    "corrupt",
    "evaluate",
    "few_shot",
    "in_steps",
    "parse_corruptions",
    "parse_floors",
    "shortfalls",
    "with_noise",
]
