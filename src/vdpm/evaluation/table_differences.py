"""How much a model differs from another one, clip by clip: what all clips share, easy or hard, cancels out."""

import math
from collections.abc import Sequence
from dataclasses import replace

from vdpm.errors import UsageError
from vdpm.evaluation.bootstrap import bootstrap
from vdpm.evaluation.table_file import TableResult
from vdpm.evaluation.table_report import ReportTable, tables


def difference_tables(results: Sequence[TableResult]) -> list[ReportTable]:
    """For each kind of table and data set, every result less the first one of it, over the clips that both have.

    Raises UsageError where no two results are of one kind, or they are not over the same clips or by the same rules.
    """
    made: list[ReportTable] = []
    for kind in dict.fromkeys((result.table, result.title) for result in results):
        first, *others = [result for result in results if (result.table, result.title) == kind]
        found = tables([_less(other, first) for other in others], paper=False) if others else []
        made += [replace(table, title=f"{table.title}: less {first.model}, clip by clip") for table in found]
    if not made:
        raise UsageError("no two of the results are of the same table and data set; give two models' to compare")
    return made


def _less(other: TableResult, first: TableResult) -> TableResult:
    """The differences of the scores of each clip, and their means; not known where either is not."""
    if other.digest != first.digest or other.rules != first.rules:
        raise UsageError(
            f"{other.model} and {first.model} are not over the same clips of {first.title}, or not scored by the same "
            "rules; run both with the same options"
        )
    before = {sample["name"]: sample for sample in first.samples}
    samples = []
    for sample in other.samples:
        one = before[sample["name"]]
        scores = {
            name: None if value is None or one["scores"].get(name) is None else value - one["scores"][name]
            for name, value in sample["scores"].items()
        }
        samples.append({**sample, "scores": scores, "corrupt": sample["corrupt"] or one["corrupt"]})
    means = {}
    for group in dict.fromkeys(sample["group"] for sample in samples):
        members = [sample for sample in samples if sample["group"] == group and sample["corrupt"] is None]
        weights = [sample["weight"] for sample in members]
        means[group] = {
            name: bootstrap(
                [math.nan if s["scores"].get(name) is None else s["scores"][name] for s in members],
                weights=None if {*weights} <= {1} else weights,
            )
            for name in dict.fromkeys(name for s in members for name in s["scores"])
        }
    return replace(other, means=means, samples=tuple(samples))
