"""Markdown tables of the runs of benchmarks/comparisons.py."""

import math
from collections.abc import Sequence
from typing import Any

from vdpm.comparison_recipes import COMPARISONS
from vdpm.evaluation.bootstrap import bootstrap

TWO_VIEWS = {
    f"margin{margin}.{name}": f"{label}, {margin}"
    for margin in (2, 8)
    for name, label in {"p0_t0": "P0(t0)", "p0_t1": "P0(t1)", "p1_t0": "P1(t0)", "p1_t1": "P1(t1)"}.items()
} | {"margin8.moving": "moving, 8"}
SNIPPETS = {
    "epe": "tracks",
    "epe_moving": "tracks, moving",
    "p_epe": "P",
    "abs_rel": "depth AbsRel",
    "rotation": "rotation",
    "translation": "translation",
}
FAMILY = {
    "margin8.p0_t1": "P0(t1), 8",
    "margin8.p1_t0": "P1(t0), 8",
    "epe": "tracks",
    "epe_moving": "tracks, moving",
}


def report(done: Sequence[dict[str, Any]], families: Sequence[str]) -> str:
    """Tables of the finished runs (contents of their ``scores.json``): means over families and seeds.

    Behind each mean over several seeds stand the values of the seeds.
    """
    lines: list[str] = []
    for comparison in COMPARISONS:
        wanted = [config.name.removeprefix("compare-") for config in comparison.recipes]
        here = [made for name in wanted for made in done if made["variant"] == name]
        if len({made["variant"] for made in here}) < 2:
            continue
        lines += [f"## {comparison.title}", "", f"The paper: {comparison.paper}.", ""]
        for title, columns in (("Two views (EPE)", TWO_VIEWS), ("Snippets of ten frames", SNIPPETS)):
            lines += [f"{title}, mean over {', '.join(families)}:", "", *table(here, families, columns), ""]
        lines += [f"Less {wanted[0]}, the same clips, with the 95 % interval over clips:", ""]
        lines += [*differences(here, wanted, families, FAMILY), ""]
    if len(families) > 1 and done:
        lines += ["## Each family", ""]
        for family in families:
            lines += [f"{family}:", "", *table(done, [family], FAMILY), ""]
    return "\n".join([*lines, "## What was run", "", *_effort(done)]) + "\n"


def table(done: Sequence[dict[str, Any]], families: Sequence[str], columns: dict[str, str]) -> list[str]:
    """One row for everyone who answered, variants first, in the order given; baselines last.

    What a network says with its motion taken away stands only where a column is about moving pixels of snippets.
    """
    rows: dict[str, dict[int, list[float]]] = {}
    for made in done:
        for who, by_family in made["scores"].items():
            if "taken away" in who and "epe_moving" not in columns:
                continue
            means = [[_mean(by_family[family].get(name, [])) for family in families] for name in columns]
            rows.setdefault(who, {})[made["seed"]] = [sum(values) / len(values) for values in means]
    lines = ["| | " + " | ".join(columns.values()) + " |", "| --- |" + " --- |" * len(columns)]
    for who in sorted(rows, key=lambda name: "motion" in name):
        cells = [cell([values[column] for values in rows[who].values()]) for column in range(len(columns))]
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    return lines


def differences(
    done: Sequence[dict[str, Any]], variants: Sequence[str], families: Sequence[str], columns: dict[str, str]
) -> list[str]:
    """How far each variant's errors lie above those of the first of ``variants``, clip by clip, mean over seeds."""

    def clips(variant: str, name: str) -> list[float]:
        runs = [made["scores"][variant] for made in done if made["variant"] == variant]
        by_run = [[value for family in families for value in run[family].get(name, [])] for run in runs]
        return [sum(values) / len(values) for values in zip(*by_run)]

    lines = ["| | " + " | ".join(columns.values()) + " |", "| --- |" + " --- |" * len(columns)]
    present = {made["variant"] for made in done}
    for variant in variants[1:] if variants[0] in present else ():
        if variant not in present:
            continue
        cells = []
        for name in columns:
            away = [b - a for a, b in zip(clips(variants[0], name), clips(variant, name), strict=True)]
            interval = bootstrap(away)
            cells.append(f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return lines


def _mean(values: Sequence[float]) -> float:
    """Over the clips that have a value."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def cell(values: Sequence[float]) -> str:
    """The mean and, where they differ, the values: '0.2000 (0.1000, 0.3000)'; nothing where none is known."""
    known = [f"{value:.4f}" for value in values if not math.isnan(value)]
    if not known:
        return ""
    mean = f"{sum(value for value in values if not math.isnan(value)) / len(known):.4f}"
    return mean if len(set(known)) == 1 else f"{mean} ({', '.join(known)})"


def _effort(done: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| run | seed | parameters | steps | frames seen | seconds of training | of scoring |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for made in done:
        cells = (made["variant"], made["seed"], f"{made['parameters']:,}", made["steps"], f"{made['frames']:,}")
        lines.append("| " + " | ".join(map(str, (*cells, made["training_seconds"], made["scoring_seconds"]))) + " |")
    return lines
