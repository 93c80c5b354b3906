"""The benchmark that trains, scores and tables the paper's comparisons: a dry run, and tables of figures by hand."""

import json
import math
import signal
import sys
from pathlib import Path

import pytest

from fixtures.outcome import Outcome
from vdpm.comparison_recipes import BASE, COMPARED, COMPARISONS, PAIRWISE
from vdpm.model import VDPM
from vdpm.recipes import RECIPES
from vdpm.synthetic.families import FAMILIES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import comparison_tables

    return comparison_tables


def test_variants_share_backbone_data_and_compute() -> None:
    def but(config, *names: str) -> dict:
        return {name: value for name, value in vars(config).items() if name not in names}

    decoders = ("name", "decoder_kind", "time_conditioning", "decoder_pairs", "mark_target")
    for config in COMPARED:
        assert RECIPES[config.name] is config
        assert but(config.network, *decoders) == but(BASE.network, *decoders)
        for bucket in config.buckets:
            assert abs(bucket.frames * bucket.batch - 480) <= 3
            assert (bucket.height, bucket.width) == (BASE.buckets[0].height, BASE.buckets[0].width)
        assert but(config.optimizer) == but(BASE.optimizer)
        assert (config.steps, config.ema_decay) == (BASE.steps, BASE.ema_decay)
    assert {c.name for comparison in COMPARISONS for c in comparison.recipes} == {c.name for c in COMPARED}
    # Pairs are trained as far apart as the ends of a held-out snippet lie.
    snippet = next(iter(FAMILIES.values()))
    assert PAIRWISE.buckets[0].stride == (1, (snippet.num_frames - 1) * snippet.frame_stride[1])


def test_cells_hold_the_mean_and_every_seed(tables) -> None:
    assert tables.cell([0.1, 0.3]) == "0.2000 (0.1000, 0.3000)"
    assert tables.cell([0.25]) == "0.2500"
    assert tables.cell([0.25, 0.25]) == "0.2500"
    assert tables.cell([math.nan]) == ""


def test_rows_are_means_over_families_with_baselines_last(tables) -> None:
    def made(variant: str, seed: int, epe: float) -> dict:
        shifts = {"rigid": 0.0, "unseen": 0.2}
        scores = {
            f: {"epe": [epe + by - 0.05, epe + by + 0.05], "epe_moving": [1.0, math.nan]} for f, by in shifts.items()
        }
        still = {f: {"epe": [0.5, 0.5]} for f in shifts}
        return {"variant": variant, "seed": seed, "scores": {"true shape, no motion": still, variant: scores}}

    done = [made("base", 0, 0.1), made("base", 1, 0.3), made("mixed", 0, 0.25)]
    columns = {"epe": "tracks", "epe_moving": "moving"}
    assert tables.table(done, ["rigid", "unseen"], columns) == [
        "| | tracks | moving |",
        "| --- | --- | --- |",
        "| base | 0.3000 (0.2000, 0.4000) | 1.0000 |",
        "| mixed | 0.3500 | 1.0000 |",
        "| true shape, no motion | 0.5000 |  |",
    ]
    assert tables.table(done, ["rigid"], columns)[2] == "| base | 0.2000 (0.1000, 0.3000) | 1.0000 |"
    # Per clip and after averaging over seeds: 0.25 against the mean of 0.1 and 0.3, and 0.3 against 0.25.
    same = tables.differences(done, ["base", "mixed"], ["rigid", "unseen"], {"epe": "tracks"})
    assert same[2:] == ["| mixed | +0.0500 [+0.0500, +0.0500] |"]
    one_seed = tables.differences(done[1:], ["mixed", "base", "add"], ["rigid"], {"epe": "tracks"})
    assert one_seed[2:] == ["| base | +0.0500 [+0.0500, +0.0500] |"]


@pytest.mark.slow
def test_a_dry_run_goes_through_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs are processes of the same script; what starts them is called here."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import comparisons
    from comparison_run import tiny

    def outcome(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["comparisons.py", *command, *words])
        at_the_end = signal.getsignal(signal.SIGTERM)
        code = 0
        try:
            comparisons.main()
        except SystemExit as leave:
            if isinstance(leave.code, str):
                print(leave.code, file=sys.stderr)
            code = leave.code if isinstance(leave.code, int) else 1
        finally:
            signal.signal(signal.SIGTERM, at_the_end)
        return Outcome(code, *capsys.readouterr())

    backbone = tmp_path / "backbone"
    VDPM(tiny(BASE).network).save_pretrained(backbone)
    command = ["-o", str(tmp_path), "--device", "cpu", "--tiny"]
    command += ["--steps", "2", "--backbone", str(backbone), "--variants", "base", "pairwise"]
    command += ["--families", "rigid", "--clips", "1"]
    first = outcome("--seeds", "0")
    outputs = "".join(path.read_text()[-2000:] for path in tmp_path.glob("*/output.txt"))
    assert first.code == 0, first.out + first.err + outputs
    report = (tmp_path / "report.md").read_text()
    assert "## Pairs or video" in report
    assert "| base, by pairs |" in report
    assert report in first.out
    base, pairs = (json.loads((tmp_path / f"{v}-0" / "scores.json").read_text()) for v in ("base", "pairwise"))
    assert (base["frames"], pairs["frames"]) == (2 * 5, 2 * 2)
    names = base["scores"]["base"]["rigid"].keys()
    assert {"epe", "margin2.p0_t1", "margin8.p1_t0", "p_epe", "rotation"} <= set(names)
    assert pairs["scores"]["pairwise"]["rigid"].keys() == names
    assert all(math.isfinite(base["scores"]["base"]["rigid"][name][0]) for name in ("epe", "p_epe", "margin8.p0_t1"))

    before = (tmp_path / "base-0" / "scores.json").stat().st_mtime_ns
    again = outcome("--seeds", "0", "1", "--stop-after", "0")
    assert again.code == 0, again.err
    assert "2 of 4 runs are finished" in again.out
    assert "2 runs were not begun" in again.out
    assert (tmp_path / "base-0" / "scores.json").stat().st_mtime_ns == before
    other = outcome("--clips", "2")
    assert other.code == 1
    assert "made with --clips 1" in other.err
