"""``vdpm scenes``: pictures of all families, and snippets as folders."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fixtures.outcome import Run
from vdpm.cli.scenes import Scenes
from vdpm.data import read_snippet
from vdpm.synthetic.families import FAMILIES, family_seeds
from vdpm.synthetic.generator import generate


@pytest.mark.parametrize("family", ["training", *FAMILIES])
def test_a_picture_of_a_family(run: Run, tmp_path: Path, family: str) -> None:
    done = run("scenes", "-o", tmp_path / "a.png", "--family", family, "--count", 1, "--frames", 2, "--size", 16, 24)
    assert done.code == 0, done.err
    assert f"{family} scenes 0 to 0" in done.out
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 2 * 24


def test_snippets_are_the_familys(run: Run, tmp_path: Path) -> None:
    words = ("scenes", "--snippets", 2, "-o", tmp_path / "out", "--family", "rigid", "--seed", 5, "--size", 16, 24)
    done = run(*words, "--targets", "0,9", "--visible")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rigid_000005", "rigid_000006"]
    snippet = read_snippet(tmp_path / "out" / "rigid_000006")
    assert snippet.targets.tolist() == [0, 9]
    # Frame 0 sees its own pixels, but for those whose edge another ray would miss.
    assert snippet.visible is not None
    assert snippet.visible[0, 0][snippet.valid[0]].float().mean() > 0.9

    config = replace(FAMILIES["rigid"], height=16, width=24)
    truth = generate(family_seeds("rigid", 1, 6), config, targets=torch.tensor([[0, 9]])).clip(0)
    torch.testing.assert_close(snippet.points, truth.points, rtol=1e-4, atol=1e-4)
    assert (snippet.images - truth.images).abs().max() < 0.01
    again = run(*words)
    assert again.code == 5
    assert "exists" in again.err


def test_mistakes_are_told_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, code in (
        (("--snippets", 0), 2),
        (("--snippets", 1, "--targets", "0-99"), 2),
        (("--snippets", 1, "--targets", "none"), 2),
        (("--snippets", 1, "--seed", -1), 2),
        (("--family", "static"), 2),
        (("--family", "rigid", "--seed", 2**20), 2),
        (("--frames", 1), 2),
    ):
        done = run("scenes", "-o", tmp_path / "out", *words)
        assert done.code == code, (words, done.err)
        assert len(done.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
    assert run("scenes", "-o", tmp_path / "file", "--snippets", 1).code == 5


def test_a_picture_goes_only_where_it_may(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.png").write_text("mine")
    for place, code, said in (("mine.png", 5, "--overwrite"), ("no/a.png", 5, "no folder"), ("a.txt", 2, ".png")):
        with monkeypatch.context() as patch:
            patch.setattr(Scenes, "_draw", None)  # told before anything is drawn
            done = run("scenes", "-o", tmp_path / place, "--count", 1, "--frames", 2, "--size", 16, 24)
        assert done.code == code, done.err
        assert said in done.err
    assert (tmp_path / "mine.png").read_text() == "mine"
    words = ("--count", 1, "--frames", 2, "--size", 16, 24, "--overwrite")
    assert run("scenes", "-o", tmp_path / "mine.png", *words).code == 0
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
