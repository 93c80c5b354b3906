"""REPORT: numbers of runs to tables in Markdown and LaTeX, the paper's rows beside ours.

DIR/scores.json    every clip's numbers, means with intervals, all options (``table_file``)
DIR/tables.md      the tables
DIR/tables.tex     the same for LaTeX (needs booktabs)
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.archive.manifest import JsonFields
from vdpm.errors import InputError
from vdpm.evaluation.bootstrap import Interval
from vdpm.evaluation.latex_text import one_line, to_latex
from vdpm.evaluation.table_file import TableResult

PUBLISHED = Path(__file__).parent / "published" / "paper.json"

_PAIR = (
    ("p0_t0", "P_0(t_0)"),
    ("p0_t1", "P_0(t_1)"),
    ("p1_t0", "P_1(t_0)"),
    ("p1_t1", "P_1(t_1)"),
    ("moving", "moving pixels"),
    ("moving_own_still", "these, own shape without motion"),
)
_TRACKING = (
    ("epe", "EPE"),
    ("epe_moving", "moving pixels"),
    ("epe_moving_own_still", "these, own shape without motion"),
    ("epe_per_map", "each map scaled alone"),
)
_DEPTH = (("abs_rel", "AbsRel"), ("delta_125", "within 1.25, %"))
_POSE = (("ate", "ATE"), ("rpe_translation", "RPE translation"), ("rpe_rotation", "RPE rotation, degrees"))
_WORLD = (
    ("world_apd", "APD, %"),
    ("world_epe", "EPE"),
    ("world_apd_dynamic", "APD dynamic, %"),
    ("world_epe_dynamic", "EPE dynamic"),
    ("world_apd_sim3", "APD Sim(3), %"),
    ("world_epe_sim3", "EPE Sim(3)"),
    ("world_apd_dynamic_sim3", "APD dynamic Sim(3), %"),
    ("world_epe_dynamic_sim3", "EPE dynamic Sim(3)"),
)
_TAPVID = (("tapvid3d_aj", "3D-AJ, %"), ("tapvid3d_apd", "APD_3D, %"), ("tapvid3d_oa", "OA, %"))
_PERCENT = ("delta_125", "world_apd", "tapvid3d")
_TITLES = {
    "two-view": "Two-view EPE (Table 1)",
    "tracking": "Tracking EPE (Table 2)",
    "video-depth": "Video depth (Table 3)",
    "camera-pose": "Camera pose (Table 4)",
}


@dataclass(frozen=True)
class ReportTable:
    """A table in no format yet. A row: its name, its cells, and whether it is from the paper."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], bool], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        lines = [f"## {one_line(self.title)}", "", "| method | " + " | ".join(map(_md, self.columns)) + " |"]
        lines.append("| --- |" + " --- |" * len(self.columns))
        for name, cells, paper in self.rows:
            row = (_md(name) + (" (paper)" if paper else ""), *cells)
            lines.append("| " + " | ".join(row) + " |")
        if self.notes:
            lines += ["", *(f"- {one_line(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A heading, a tabular with booktabs' rules, the paper's rows above a rule and ours below, and the notes."""
        head = " & ".join(["Method", *map(_tex, self.columns)]) + r" \\"
        lines = [rf"\par\medskip\noindent\textbf{{{_tex(self.title)}}}\par\nopagebreak\smallskip\noindent"]
        lines += [r"\begin{tabular}{l" + "c" * len(self.columns) + "}", r"\toprule", head, r"\midrule"]
        for paper in (True, False):
            block = [row for row in self.rows if row[2] == paper]
            lines += [" & ".join([_tex(name), *map(_tex, cells)]) + r" \\" for name, cells, _ in block]
            if paper and block and len(block) < len(self.rows):
                lines.append(r"\midrule")
        lines += [
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\noindent{{\footnotesize {_tex(n)}\par}}" for n in self.notes),
        ]
        return "\n".join(lines) + "\n"


def published() -> dict[str, Any]:
    """The paper's figures, by table, data set (margin) and method; None where it gives none."""
    try:
        content = JsonFields.parse(PUBLISHED.read_text(), PUBLISHED)
    except OSError as error:
        raise InputError(f"{PUBLISHED}: cannot be read ({error}); install vdpm anew") from None
    return content.data


def tables(results: Sequence[TableResult], paper: bool = True) -> list[ReportTable]:
    """One table for each kind and data set (and margin), a row for each result, with what the paper does not report.

    Where one kind was run on several data sets, first a table of all of them, as the paper prints it. Without
    ``paper`` neither its rows nor that table.
    """
    kinds = dict.fromkeys((result.table, result.title) for result in results)
    found: list[ReportTable] = []
    for table in dict.fromkeys(table for table, _ in kinds):
        titles = [title for kind, title in kinds if kind == table]
        if len(titles) > 1 and paper:
            found += _overviews(table, titles, [result for result in results if result.table == table])
    for table, title in kinds:
        group = [result for result in results if (result.table, result.title) == (table, title)]
        given = published().get(table, {}).get(title, {}) if paper else {}
        if table == "two-view":
            margins = dict.fromkeys(sample["group"] for result in group for sample in result.samples)
            for margin in sorted(margins, key=int):
                heading = f"{_TITLES[table]}, {title}, {margin} frames apart"
                found.append(_table(heading, _PAIR, group, given.get(margin, {}), margin))
        elif table == "tracking":
            found.append(_table(f"{_TITLES[table]}, {title}", _TRACKING, group, given))
            unit = "metres" if all(result.metric for result in group) else "the data's unit, not known to be metres"
            found.append(_table(f"World tracks (as WorldTrack), {title}: {unit}", _WORLD, group, {}))
            found.append(_table(f"Tracks in the camera (as TAPVid-3D), {title}", _TAPVID, group, {}))
        elif table == "video-depth":
            found.append(_depth_table(f"{_TITLES[table]}, {title}", group, given))
        else:
            found.append(_table(f"{_TITLES[table]}, {title}", _POSE, group, given))
    return found


def write_report(results: Sequence[TableResult], folder: Path, more: Sequence[ReportTable] = ()) -> list[ReportTable]:
    """``tables.md`` and ``tables.tex`` in ``folder``: of the results, then ``more``. Raises OutputError where they
    cannot be written."""
    made = [*tables(results), *more]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "tables.md", ["\n".join(table.markdown() for table in made).encode()])
        write_whole(folder / "tables.tex", ["\n".join(table.latex() for table in made).encode()])
    return made


def _overviews(table: str, titles: Sequence[str], group: Sequence[TableResult]) -> list[ReportTable]:
    """All data sets side by side, a table for each margin: a row for each model, by its name, and each of the paper's.

    Depth is that of the alignment by medians. What a model was not run on is left open.
    """
    margins = sorted({sample["group"] for result in group for sample in result.samples}, key=lambda m: int(m or 0))
    columns = {"two-view": _PAIR[:4], "tracking": _TRACKING[:1], "video-depth": _DEPTH, "camera-pose": _POSE}[table]
    prefix = "median." if table == "video-depth" else ""
    named = [(result.model, result.title) for result in group]
    notes = ["depth of ours is aligned by the ratio of medians"] if prefix else []
    twice = dict.fromkeys(model for model, title in named if named.count((model, title)) > 1)
    notes += [f"several runs are called {name}, the last is shown; tell them apart with --name" for name in twice]
    made: list[ReportTable] = []
    for margin in margins:
        paper = {title: published().get(table, {}).get(title, {}) for title in titles}
        paper = {title: by.get(margin, {}) if margin else by for title, by in paper.items()}
        rows: list[tuple[str, tuple[str, ...], bool]] = []
        for name in dict.fromkeys(name for by in paper.values() for name in by):
            cells = tuple(_given(paper[title].get(name, {}).get(key)) for title in titles for key, _ in columns)
            rows.append((name, cells, True))
        for name in dict.fromkeys(result.model for result in group):
            runs = {result.title: result for result in group if result.model == name}
            cells = tuple(
                _measured(runs[title], margin, prefix + key) if title in runs else "—"
                for title in titles
                for key, _ in columns
            )
            rows.append((name, cells, False))
        heading = f"{_TITLES[table]}" + (f", {margin} frames apart" if margin else "")
        labels = tuple(f"{title}: {label}" for title in titles for _, label in columns)
        made.append(ReportTable(heading, labels, tuple(rows), tuple(notes)))
    return made


def _table(
    title: str,
    columns: Sequence[tuple[str, str]],
    group: Sequence[TableResult],
    paper: dict[str, dict[str, float | None]],
    margin: str = "",
) -> ReportTable:
    rows = [(name, tuple(_given(figures.get(key)) for key, _ in columns), True) for name, figures in paper.items()]
    keys = [key for key, _ in columns]
    for result in group:
        rows.append((result.model, tuple(_measured(result, margin, key) for key in keys), False))
    notes = [note for result in group for note in _notes(result, margin, keys)] + _unlike(group)
    return ReportTable(title, tuple(label for _, label in columns), tuple(rows), tuple(notes))


def _depth_table(title: str, group: Sequence[TableResult], paper: dict[str, dict[str, float | None]]) -> ReportTable:
    rows = [(name, tuple(_given(figures.get(key)) for key, _ in _DEPTH), True) for name, figures in paper.items()]
    notes: list[str] = []
    for result in group:
        names = dict.fromkeys(key.split(".")[0] for key in result.means.get("", {}))
        for align in names:
            keys = [f"{align}.{key}" for key, _ in _DEPTH]
            rows.append((f"{result.model}, {align}", tuple(_measured(result, "", key) for key in keys), False))
        notes += _notes(result, "", [f"{align}.abs_rel" for align in names])
    notes += _unlike(group)
    return ReportTable(title, tuple(label for _, label in _DEPTH), tuple(rows), tuple(notes))


def _measured(result: TableResult, group: str, key: str) -> str:
    interval = result.means.get(group, {}).get(key)
    if interval is None or math.isnan(interval.mean):
        return "n/a"
    return _figure(interval, any(part in key for part in _PERCENT))


def _figure(interval: Interval, percent: bool) -> str:
    if percent:
        return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _given(value: float | None) -> str:
    """A figure of the paper: shares are printed in percent there."""
    return "—" if value is None else f"{value:.1f}" if value > 20 else f"{value:.3f}"


def _notes(result: TableResult, group: str, keys: Sequence[str]) -> list[str]:
    """How many clips a row is over, what was left out and why, and which clips leave an error undefined."""
    drawn = [sample for sample in result.samples if sample["group"] == group]
    clips = [sample for sample in drawn if sample["corrupt"] is None]
    noun = ("clip" if result.table in ("two-view", "tracking") else "sequence") + ("s" if len(drawn) != 1 else "")
    count = f"{len(clips)}" if len(clips) == len(drawn) else f"{len(clips)} of {len(drawn)}"
    notes = ["; ".join([f"{result.model}: {count} {noun}", *result.notes])]
    if len(clips) < len(drawn):
        lost = [f"{s['name']} ({s['corrupt']})" for s in drawn if s["corrupt"] is not None]
        rest = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        notes.append(f"{result.model}: {len(lost)} cannot be read, and are in no mean: {'; '.join(lost[:5])}{rest}")
    undefined: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        names = tuple(s["name"] for s in clips if s["scores"].get(key) is None)
        if names:
            undefined.setdefault(names, []).append(key)
    for names, which in undefined.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        notes.append(f"{result.model}: {', '.join(which)} undefined, and not in the mean, for {len(names)}: {shown}")
    if result.left_out:
        listed = [f"{name} {reason}" for name, reason in result.left_out.items()]
        rest = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        notes.append(f"{result.model}: left out {len(listed)}: {'; '.join(listed[:5])}{rest}")
    return notes


def _unlike(group: Sequence[TableResult]) -> list[str]:
    """Warnings where rows are not over the same clips, or not scored by the same rules."""
    lost = [frozenset(s["name"] for s in result.samples if s["corrupt"] is not None) for result in group]
    same = len({(result.digest, names) for result, names in zip(group, lost)}) <= 1
    warnings = [] if same else ["the rows are not over the same clips and cannot be compared"]
    values = {
        rule: {str(result.rules.get(rule)): None for result in group} for result in group for rule in result.rules
    }
    differ = [f"{rule}: {', '.join(said)}" for rule, said in values.items() if len(said) > 1]
    if differ:
        warnings.append(f"the rows are not scored by the same rules and cannot be compared ({'; '.join(differ)})")
    return warnings


def _tex(text: str) -> str:
    """For LaTeX, with indices where they are."""
    if maps := re.fullmatch(r"P_(\d)\(t_(\d)\)", text):
        return f"$P_{maps[1]}(t_{maps[2]})$"
    return to_latex(text)


def _md(text: str) -> str:
    """For a cell of a Markdown table."""
    return one_line(text).replace("|", r"\|").replace("<", r"\<")
