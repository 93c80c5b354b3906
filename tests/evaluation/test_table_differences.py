"""Two models over the same clips, clip by clip, on numbers made by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.outcome import Run
from vdpm.cli import main
from vdpm.errors import UsageError
from vdpm.evaluation.bootstrap import Interval
from vdpm.evaluation.table_differences import difference_tables
from vdpm.evaluation.table_file import TableResult


def result(model: str, values: list[float | None], weights: tuple[float, ...] = (1.0,) * 4) -> TableResult:
    samples = tuple(
        {"name": str(k), "group": "", "weight": weights[k], "corrupt": None, "scores": {"ate": value}}
        for k, value in enumerate(values)
    )
    means = {"": {"ate": Interval(0.5, 0.5, 0.5, 4)}}
    return TableResult("camera-pose", "Sintel", model, "0123", True, means, samples, {}, (), {"delta": 1})


def test_what_clips_share_cancels_out() -> None:
    """Clips from easy to hard, the second model 0.1 worse on each: sure of it, whatever the clips."""
    easy_to_hard = [0.1, 1.0, 5.0, 9.0]
    one, two = result("one", easy_to_hard), result("two", [v + 0.1 for v in easy_to_hard])
    (table,) = difference_tables([one, two])
    assert table.title == "Camera pose (Table 4), Sintel: less one, clip by clip"
    assert table.rows == (("two", ("0.100 [0.100, 0.100]", "n/a", "n/a"), False),)
    (back,) = difference_tables([two, one])
    assert back.rows[0][1][0] == "-0.100 [-0.100, -0.100]"


def test_weights_and_what_is_not_known() -> None:
    """Differences 1 and 3 with weights 1 and 3: 10 / 4; clips that one of the two leaves undefined are named."""
    one = result("one", [0.0, 0.0, None, 1.0], (1.0, 3.0, 5.0, 5.0))
    two = result("two", [1.0, 3.0, 1.0, None], (1.0, 3.0, 5.0, 5.0))
    (table,) = difference_tables([one, two])
    assert table.rows[0][1][0].startswith("2.500 [1.000, 3.000]")
    assert "two: ate undefined, and not in the mean, for 2: 2, 3" in table.notes
    lost = replace(two, samples=({**two.samples[0], "corrupt": "torn"}, *two.samples[1:]))
    for pair in ([one, lost], [lost, replace(one, model="other")]):
        (table,) = difference_tables(pair)
        assert table.rows[0][1][0].removeprefix("-").startswith("3.000")
        assert any("3 of 4 sequences" in note for note in table.notes)


def test_what_cannot_be_compared_is_refused() -> None:
    one, two = result("one", [0.0] * 4), result("two", [0.0] * 4)
    for other in (replace(two, digest="4567"), replace(two, rules={"delta": 2})):
        with pytest.raises(UsageError, match="two and one are not over the same clips"):
            difference_tables([one, other])
    with pytest.raises(UsageError, match="no two of the results"):
        difference_tables([one, replace(two, title="TUM-dynamics")])


def test_from_the_command_line(evaluate: Run, tmp_path: Path) -> None:
    for model in ("oracle", "zero-motion"):
        assert evaluate("tracking", "kubric", "--model", model, "-o", tmp_path / model).code == 0
    words = [str(tmp_path / "oracle"), str(tmp_path / "zero-motion"), "-o", str(tmp_path / "both")]
    assert main(["evaluate", "report", *words, "--differences"]) == 0
    text = (tmp_path / "both" / "tables.md").read_text()
    parts = text.split("## ")[1:]
    assert [part.splitlines()[0].endswith(": less oracle, clip by clip") for part in parts] == [False] * 3 + [True] * 3
    own, less = (
        next(line for line in part.splitlines() if line.startswith("| zero-motion")).split(" | ")
        for part in (parts[0], parts[3])
    )
    # The truth is right but for the motion that is taken from it in the third column.
    assert own[:3] == less[:3]
    assert less[3].startswith("0.000")
    assert "(paper)" not in parts[3]
    assert r"less oracle, clip by clip" in (tmp_path / "both" / "tables.tex").read_text()
    assert main(["evaluate", "report", words[0], "-o", str(tmp_path / "one"), "--differences"]) == 2
