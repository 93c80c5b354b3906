"""``vdpm evaluate`` with a tiny network: tables, the file, mistakes, an interruption."""

import json
from pathlib import Path

import pytest

from fixtures.outcome import Run
from vdpm.evaluation import held_out
from vdpm.model import VDPM


def test_all_families_are_scored(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    done = run(
        "evaluate", "--model", tiny_folder, "--clips", 1, "--size", 16, 24, "-o", tmp_path / "s.json", "--device", "cpu"
    )
    assert done.code == 0, done.err
    for family in ("rigid", "articulated", "unseen"):
        assert f"{family}: 1 snippets of 10 frames of 24 x 16" in done.out
    assert done.out.count("| tracking EPE |") == 3
    read = json.loads((tmp_path / "s.json").read_text())
    assert read["fingerprint"] == VDPM.from_pretrained(tiny_folder).fingerprint()
    assert list(read["families"]) == ["rigid", "articulated", "unseen"]
    # Smaller frames than the manifest's: the file says that these are not the family's figures.
    assert not read["families"]["rigid"]["comparable"]
    assert "another size" in done.out


def test_the_mirrored_clip_is_asked_as_well(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    options = ("--model", tiny_folder, "--family", "rigid", "--clips", 1, "--size", 16, 24, "--device", "cpu")
    for name, more in (("one", ()), ("two", ("--mirror",))):
        done = run("evaluate", "families", *options, *more, "-o", tmp_path / name)
        assert done.code == 0, done.err
        assert ("the mirrored clip as well" in done.out) is bool(more)
    one, two = (json.loads((tmp_path / name).read_text())["families"]["rigid"] for name in ("one", "two"))
    epe, mirrored = (read["snippets"][0]["network"]["epe"] for read in (one, two))
    assert abs(epe - mirrored) > 1e-6


def test_an_interruption_keeps_what_is_done(
    run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    score_batch = held_out.score_batch

    def interrupted(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return score_batch(*args)

    monkeypatch.setattr(held_out, "score_batch", interrupted)
    words = ("--model", tiny_folder, "--size", 16, 24, "--batch", 1, "--family", "rigid", "-o", tmp_path / "s.json")
    done = run("evaluate", *words, "--clips", 4)
    assert done.code == 130
    assert done.err.splitlines()[-1] == "vdpm: error: interrupted"
    assert "rigid: 2 (of 4: interrupted)" in done.out
    family = json.loads((tmp_path / "s.json").read_text())["families"]["rigid"]
    assert (family["complete"], len(family["snippets"])) == (False, 2)


def test_mistakes(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    for words, code in (
        (("--clips", 0), 2),
        (("--clips", 201), 2),
        (("--batch", 0), 2),
        (("--size", 15, 24), 2),
        (("--horizon", 0.5), 2),
        (("--family", "none"), 2),
        (("--model", tmp_path / "nothing"), 4),
    ):
        done = run("evaluate", *(words if "--model" in words else (*words, "--model", tiny_folder)))
        assert done.code == code, (words, done.err)
        assert len(done.err.splitlines()) == 1
        assert done.out == ""


def test_a_place_that_cannot_be_written_is_told_before_the_scoring(
    run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "score_batch", None)
    for place in (tmp_path, tmp_path / "no" / "s.json"):
        done = run("evaluate", "--model", tiny_folder, "--family", "rigid", "--clips", 1, "-o", place)
        assert (done.code, len(done.err.splitlines())) == (5, 1), done.err
