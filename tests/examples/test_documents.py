"""Python of README and docs runs as it stands, and links lead somewhere."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest

import vdpm
from fixtures.clips import write_clip
from fixtures.moving_sphere import make_moving_sphere
from fixtures.tiny_network import tiny_network
from vdpm.archive import save
from vdpm.export.formats import export

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: str) -> str:
    """All Python of a page, from top to bottom."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of, and a network that is quick."""
    network = tiny_network()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vdpm, "reconstruct", functools.partial(vdpm.reconstruct, model=network))
    monkeypatch.setattr(vdpm.VDPM, "from_pretrained", lambda *_: network)
    write_clip(tmp_path / "video.mp4", num_frames=9)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/api.md", "docs/gallery.md"])
def test_python_of_a_page_runs(desk: Path, page: str) -> None:
    text = blocks_of(page)
    assert "vdpm.reconstruct(" in text
    names: dict[str, Any] = {}
    exec(compile(text, page, "exec"), names)
    assert isinstance(names["result"], vdpm.Reconstruction)


def test_pythons_shapes_are_those_that_the_page_tells(desk: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks_of("docs/api.md"), "api.md", "exec"), names)
    result = vdpm.load("result")
    assert names["flow"].shape == (*result.size, 3)
    assert names["moving"].shape == names["sure"].shape == result.size
    assert names["match"].pixels.shape == (*result.size, 2)
    assert names["in_video"].shape == (9, 1, 2)
    assert abs(names["in_video"][0, 0] - names["tracks"].queries.new_tensor([32.0, 24.0])).max() < 8
    assert names["depth"].shape == result.transform.source_size == (48, 64)
    kept = names["video"].transform.intrinsics_to_source(names["result"].cameras.intrinsics)
    assert kept[0, 0, 0] == pytest.approx(60, rel=1e-3)


def test_python_of_exports_reads_what_the_export_wrote(desk: Path, capsys: Any) -> None:
    export(make_moving_sphere(num_frames=9, size=(12, 16)).reconstruction, "npz", desk / "clip_npz.npz")
    exec(compile(blocks_of("docs/exports.md"), "exports.md", "exec"), {})
    assert "world_axes" in capsys.readouterr().out


def test_python_of_the_viewer_runs(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("viser", reason="viser is not installed (pip install 'vdpm[view]')")
    from vdpm.viewer.live.viewer import Viewer

    monkeypatch.setattr(Viewer, "wait", lambda *_: None)
    save(make_moving_sphere(num_frames=2, size=(12, 16)).reconstruction, desk / "DIR")
    exec(compile(blocks_of("docs/viewer.md"), "viewer.md", "exec"), {})
    assert "http://localhost:" in capsys.readouterr().out


def test_links_within_the_repository_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
