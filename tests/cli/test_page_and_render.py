"""``vdpm page`` and ``vdpm render``: files where they belong, one line for each mistake."""

import shutil
from pathlib import Path

import pytest

from fixtures.moving_sphere import make_moving_sphere
from fixtures.outcome import Run
from vdpm.archive import save

RENDER = ("--size", 96, "--seconds", 0.3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "result"
    save(make_moving_sphere(num_frames=3, size=(32, 48)).reconstruction, folder)
    return folder


@pytest.mark.parametrize(("verb", "name", "options"), [("page", "a.html", ()), ("render", "a.mp4", RENDER)])
class TestBoth:
    def test_it_writes_its_file_and_keeps_one_that_exists(
        self, run: Run, saved: Path, tmp_path: Path, verb: str, name: str, options: tuple[object, ...]
    ) -> None:
        before = sorted(path.name for path in saved.rglob("*"))
        done = run(verb, saved, "-o", tmp_path / name, *options)
        assert (done.code, name in done.out) == (0, True)
        content = (tmp_path / name).read_bytes()
        again = run(verb, saved, "-o", tmp_path / name, *options)
        assert again.code == 5
        assert "--overwrite" in again.err
        assert again.err.count("\n") == 1
        (tmp_path / name).write_bytes(b"something else")
        assert run(verb, saved, "-o", tmp_path / name, *options, "--overwrite").code == 0
        assert len((tmp_path / name).read_bytes()) > 0.9 * len(content)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert sorted(path.name for path in saved.rglob("*")) == before, "the result is left as it is"

    def test_without_a_place_it_goes_beside_the_result(
        self, run: Run, saved: Path, tmp_path: Path, verb: str, name: str, options: tuple[object, ...]
    ) -> None:
        folder = shutil.copytree(saved, tmp_path / "my.result")
        done = run(verb, folder, *options)
        assert done.code == 0
        made = tmp_path / f"my.result{Path(name).suffix}"
        assert made.stat().st_size > 1000
        assert str(made) in done.out
        assert run(verb, folder, *options).code == 5, "and keeps what is there"

    def test_a_foreign_or_broken_folder(
        self, run: Run, saved: Path, tmp_path: Path, verb: str, name: str, options: tuple[object, ...]
    ) -> None:
        (tmp_path / "foreign").mkdir()
        broken = shutil.copytree(saved, tmp_path / "broken")
        maps = broken / "maps" / "p.npy"
        maps.write_bytes(maps.read_bytes()[:-100])
        for folder in ("nowhere", "foreign", "broken"):
            failed = run(verb, tmp_path / folder, "-o", tmp_path / name, *options)
            assert failed.code == 3, failed.err
            assert failed.err.count("vdpm: error:") == 1
            assert folder in failed.err
        assert not (tmp_path / name).exists()

    def test_damage_that_is_found_late_leaves_no_file(
        self, run: Run, saved: Path, tmp_path: Path, verb: str, name: str, options: tuple[object, ...]
    ) -> None:
        broken = shutil.copytree(saved, tmp_path / "broken")
        maps = broken / "maps" / "q_00002.npy"
        content = bytearray(maps.read_bytes())
        content[-400:] = b"\xff" * 400
        maps.write_bytes(content)
        failed = run(verb, broken, "-o", tmp_path / name, *options)
        assert failed.code == 3
        assert "q_00002.npy" in failed.err
        assert [path.name for path in tmp_path.iterdir()] == ["broken"]

    def test_places_where_no_file_can_go(
        self, run: Run, saved: Path, tmp_path: Path, verb: str, name: str, options: tuple[object, ...]
    ) -> None:
        (tmp_path / name).mkdir()
        assert run(verb, saved, "-o", tmp_path / name, *options).code == 5
        assert run(verb, saved, "-o", tmp_path / "nowhere" / name, *options).code == 5
        assert run(verb, saved, "-o", tmp_path / "a.xyz", *options).code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("page", "--points", 0),
        ("page", "--frames", 100),
        ("page", "--hide", 100),
        ("render", "--camera", "upwards"),
        ("render", "--at", 9),
        ("render", "--fps", 0),
        ("render", "--min-confidence", "nan"),
        ("page", "--min-confidence", "nan"),
        ("render", "--show", "depth", "--camera", "swing"),
    ],
)
def test_options_out_of_range(run: Run, saved: Path, tmp_path: Path, words: tuple[object, ...]) -> None:
    verb, *options = words
    failed = run(verb, saved, "-o", tmp_path / ("a.html" if verb == "page" else "a.mp4"), *options)
    assert failed.code == 2
    assert failed.err.count("vdpm: error:") == 1
    assert not list(tmp_path.iterdir())


def test_a_page_of_nothing(run: Run, saved: Path, tmp_path: Path) -> None:
    failed = run("page", saved, "-o", tmp_path / "a.html", "--min-confidence", 1000)
    assert failed.code == 3
    assert "--min-confidence" in failed.err
