"""``vdpm export``: words to files, and one line for each mistake."""

import sys
from pathlib import Path

import pytest

from fixtures.outcome import Outcome, Run
from fixtures.sided_scene import sided_scene
from vdpm.archive import save
from vdpm.export.formats import FORMATS


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "clip"
    save(sided_scene(), folder)
    return folder


def refused(done: Outcome, code: int, *words: str) -> None:
    assert done.code == code, done
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("vdpm: error: ")
    for word in words:
        assert word in done.err, done.err


def test_a_result_is_exported_beside_itself(run: Run, result: Path) -> None:
    done = run("export", result, "--to", "tum")
    assert done.code == 0, done.err
    place = result.with_name("clip_tum.txt")
    assert place.is_file()
    assert str(place) in done.out
    assert "OpenCV" in done.out
    refused(run("export", result, "--to", "tum"), 5, "--overwrite")
    assert run("export", result, "--to", "tum", "--overwrite").code == 0


def test_help_names_every_format(run: Run) -> None:
    words = set(run("export", "--help").out.replace(",", " ").split())
    assert set(FORMATS) <= words


def test_options_reach_the_file(run: Run, result: Path, tmp_path: Path) -> None:
    words = ("--frames", "0,2", "--axes", "blender", "--scale", "2.5", "--stride", "2", "--min-confidence", "2")
    done = run("export", result, "--to", "ply", "-o", tmp_path / "clouds", *words)
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "clouds").iterdir()} == {
        "conventions.json",
        "points_t00000.ply",
        "points_t00002.ply",
    }
    head = (tmp_path / "clouds" / "points_t00000.ply").read_bytes()[:2000]
    assert b"Blender: x right" in head
    assert b"times 2.5" in head


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--to", "fbx"), 2, "no format 'fbx'"),
        (("--to", "glb", "--axes", "blender"), 2, "y-up or opengl"),
        (("--to", "glb", "--tracks", "5"), 2, "means nothing"),
        (("--to", "tum", "--frames", "two"), 2, "--frames 'two' is not frame numbers such as"),
        (("--to", "nuke", "--first-frame", "9" * 20), 2, "first_frame"),
        (("--to", "ply", "--min-confidence", "1e9", "--drop-edges"), 2, "leave out --drop-sky and --drop-edges, or"),
        (("--to", "tum", "--drop-sky"), 2, "--drop-sky means nothing for tum"),
        (("--to", "ply", "--min-confidence", "1e9"), 2, "no point has a confidence of 1e+09; lower --min-confidence"),
        (
            ("--to", "ply", "--stride", "99", "--min-confidence", "9"),
            2,
            "among every 99 pixels has a confidence of 9; lower --stride",
        ),
        (("--to", "tum", "--start", "9", "-o", "a.txt"), 2, "no frame"),
        (("--to", "glb", "-o", "scene.obj"), 2, ".glb"),
        (("--to", "glb", "-o", "no/such/scene.glb"), 5, "no folder"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    code: int,
    said: str,
    run: Run,
    result: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run("export", result, *words), code, said)
    assert not list(tmp_path.iterdir())


def test_folders_that_are_no_results(run: Run, result: Path, tmp_path: Path) -> None:
    refused(run("export", tmp_path / "none", "--to", "glb"), 3, "no such folder")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    refused(run("export", tmp_path / "other", "--to", "glb"), 3, "not a vdpm result")
    save(sided_scene(), tmp_path / "cut")
    maps = tmp_path / "cut" / "maps" / "p.npy"
    maps.write_bytes(maps.read_bytes()[:500])
    refused(run("export", tmp_path / "cut", "--to", "glb", "-o", tmp_path / "a.glb"), 3, "p.npy")
    assert not list(tmp_path.glob("*.glb"))
    refused(run("export", result, "--to", "ply", "-o", result, "--overwrite"), 2, "result itself")


def test_a_missing_package(run: Run, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    refused(run("export", result, "--to", "usd", "-o", tmp_path / "a.usdc"), 1, "pip install 'vdpm[usd]'")
