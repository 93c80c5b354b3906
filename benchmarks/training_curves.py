"""Curves of the runs that made ``vdpm-small``, from the tables in docs/training.md.

    pip install matplotlib
    python benchmarks/training_curves.py -o docs/images/training.svg

Left: the error of P on training clips, one line a run, numbered. Middle: the error of motion on moving pixels over that
of no motion. Right: tracks on held-out clips, exact weights joined by lines, what shipped as squares. A row counts
whose first cell begins or ends with a number of clips.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"
HELD_OUT = "Held-out clips, network by network"
ASKED = {"rigid": 0.06, "articulated": 0.08}
COLORS = {"rigid": "#2a6fbb", "articulated": "#c4572c", "unseen": "#3b8f5a"}
INK, FAINT = "#222222", "#8a8a8a"
MILLION = 1e6

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.svg|FILE.png")
    output = parser.parse_args().output
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "vdpm", "font.family": "sans-serif", "font.size": 9}
    plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT}
    figure, (shape, motion, tracks) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for name, rows in tables(PAGE.read_text()):
        if rows and "EPE of P" in rows[0] and name.endswith("run"):
            draw_run(shape, motion, name, rows)
        elif name == HELD_OUT:
            draw_tracks(tracks, rows)
    shape.set(title="Error of P, training clips", ylabel="of a clip's mean distance", yscale="log")
    shape.set_yticks([0.1, 0.15, 0.2, 0.3, 0.4, 0.6], ["0.1", "0.15", "0.2", "0.3", "0.4", "0.6"])
    shape.minorticks_off()
    motion.axhline(1, color=FAINT, linewidth=0.8)
    motion.set(title="Error of motion over no motion, moving pixels", ylim=(0.5, 1.05))
    tracks.set(title="Tracks, held-out clips (40 a family)", ylim=(0.05, 0.13))
    for axes in (shape, motion, tracks):
        axes.set_xlabel("million clips seen")
        axes.tick_params(colors=INK)
        axes.title.set_fontsize(10)
    figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None, dpi=120)


def tables(text: str) -> Iterator[tuple[str, list[Row]]]:
    """Each table of the page with the heading above it, up to a colon or comma: "A fifth run"."""
    heading, header, rows = "", [""], list[Row]()
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if set(line) <= set("|- "):
                continue
            if header == [""]:
                header = cells
            else:
                rows.append(dict(zip(header, cells)))
            continue
        if rows:
            yield heading, rows
        header, rows = [""], []
        if line.startswith("#"):
            heading = line.lstrip("# ")
            heading = heading if heading == HELD_OUT else heading.split(",")[0]


def clips(row: Row) -> float | None:
    """In millions, from "1,954,000 (before ...)" or "last quarter, to 3,023,912"."""
    found = re.search(r"^[\d,]{5,}|[\d,]{7,}$", row.get("clips seen", ""))
    return int(found.group().replace(",", "")) / MILLION if found else None


def draw_run(shape: Axes, motion: Axes, name: str, rows: list[Row]) -> None:
    number = 1 + ORDER.index(name.split()[1])
    color = plt.get_cmap("viridis")(0.9 * number / len(ORDER))
    points = [(x, row) for row in rows if (x := clips(row)) is not None and "before" not in row["clips seen"]]
    if not points:
        return  # its rows tell parts of the run
    x = [x for x, _ in points]
    errors = [float(row["EPE of P"]) for _, row in points]
    shape.plot(x, errors, color=color, marker=".", markersize=4, linewidth=1.2)
    at, side = ((x[0], errors[0]), (1, 5)) if number < 7 or number == 11 else ((x[-1], errors[-1]), (-2, -12))
    shape.annotate(str(number), at, side, textcoords="offset points", color=color, size=8)
    if "motion" in rows[0]:
        shares = [float(row["motion"]) / float(row["without motion"]) for _, row in points]
        motion.plot(x, shares, color=color, marker=".", markersize=4, linewidth=1.2)


ORDER = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh")


def draw_tracks(axes: Axes, rows: list[Row]) -> None:
    for family, color in COLORS.items():
        for shipped in (False, True):
            chosen = [row for row in rows if ("ships" in row["weights"]) == shipped]
            x, y = [clips(row) for row in chosen], [float(row[family]) for row in chosen]
            style = {"marker": "s", "linestyle": "none"} if shipped else {"marker": "o", "linewidth": 1.2}
            axes.plot(x, y, color=color, markersize=4, **style)
        axes.annotate(family, (x[-1], y[-1]), (6, -3), textcoords="offset points", color=color, size=8)
        if family in ASKED:
            axes.axhline(ASKED[family], color=color, linewidth=0.8, linestyle=":")
    axes.margins(x=0.25)


if __name__ == "__main__":
    main()
