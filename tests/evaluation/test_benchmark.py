"""Which clips are drawn, and the committed rules."""

from dataclasses import replace
from typing import get_args

import pytest

from vdpm.errors import UsageError
from vdpm.evaluation.benchmark import FOLDER, TABLES, Benchmark, Table, draw, load_benchmark


def test_the_committed_rules_can_be_read() -> None:
    assert get_args(Table) == TABLES
    names = {path.stem for path in FOLDER.glob("*.json")}
    assert {"default", "sintel", "bonn", "tum", "kubric", "pointodyssey", "waymo"} <= names
    for name in names:
        for table in TABLES:
            benchmark = load_benchmark(name, table)
            assert (benchmark.dataset, benchmark.table) == (name, table)
    bonn = load_benchmark("bonn", "video-depth")
    assert (bonn.title, bonn.first, bonn.frames, bonn.pairing, len(bonn.sequences or ())) == (
        "Bonn",
        30,
        110,
        "index",
        5,
    )
    tum = load_benchmark("tum", "camera-pose")
    assert (tum.title, tum.stride, tum.frames, tum.pairing, len(tum.sequences or ())) == (
        "TUM-dynamics", 3, 90, "pose", 8
    )  # fmt: skip
    sintel = load_benchmark("sintel", "video-depth")
    assert (sintel.depth_cap, sintel.clip, len(sintel.sequences or ())) == (70, 70, 14)
    assert load_benchmark("blendedmvs", "two-view").margins == (2, 8)


def test_pairs_lie_as_far_apart_as_the_margin_says() -> None:
    drawn = draw(Benchmark("d", "D", "two-view", margins=(2, 8), per_sequence=3), {"a": 24, "b/c d": 9, "e": 8})
    assert {s.group for s in drawn.samples if s.sequence == "a"} == {"2", "8"}
    for sample in drawn.samples:
        first, second = sample.frames
        assert second - first == int(sample.group)
        assert 0 <= first < second < {"a": 24, "b/c d": 9, "e": 8}[sample.sequence]
    assert [s.frames for s in drawn.samples if (s.sequence, s.group) == ("b/c d", "8")] == [(0, 8)]
    assert not [s for s in drawn.samples if (s.sequence, s.group) == ("e", "8")]
    names = [sample.name for sample in drawn.samples]
    assert len({*names}) == len(names) == 3 + 3 + 3 + 1 + 3
    assert not any("/" in name or " " in name for name in names)


def test_a_draw_depends_on_the_sequence_alone() -> None:
    benchmark = Benchmark("d", "D", "tracking", frames=10, stride=2, per_sequence=2)
    alone, among = draw(benchmark, {"b": 100}), draw(benchmark, {"a": 50, "b": 100, "c": 70})
    assert alone.samples == tuple(s for s in among.samples if s.sequence == "b")
    assert all(s.frames == tuple(range(s.frames[0], s.frames[0] + 20, 2)) for s in among.samples)
    assert draw(replace(benchmark, seed=1), {"b": 100}).digest() != alone.digest()


def test_what_is_left_out_is_told() -> None:
    named = Benchmark("d", "D", "video-depth", sequences=("a", "gone", "tiny"), first=30, frames=110)
    drawn = draw(named, {"a": 120, "other": 200, "tiny": 31})
    assert [s.frames for s in drawn.samples] == [tuple(range(30, 120))]
    assert drawn.left_out == {"gone": "is not there", "tiny": "has 31 frames, too few"}
    assert draw(named, {"a": 500}).samples[0].frames == tuple(range(30, 140))
    with pytest.raises(UsageError, match="--sequences all"):
        draw(named, {"b": 100})


def test_rules_that_make_no_sense() -> None:
    for values in ({"margins": ()}, {"margins": (0,)}, {"stride": 0}, {"first": -1}, {"depth_cap": 0.0}):
        with pytest.raises(UsageError):
            replace(Benchmark("d", "D", "two-view", margins=(2,)), **values)
    assert Benchmark("d", "D", "tracking").changed(stride=None, frames=5).frames == 5
