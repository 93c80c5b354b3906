"""demo, convert, scenes: from words to files. train and evaluate are tested beside what they call."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import vdpm
from fixtures.outcome import Run
from vdpm.cli import demo, screen
from vdpm.model import checkpoint_file
from vdpm.synthetic import SceneConfig
from vdpm.synthetic.demo_clip import load_ground_truth, write_clip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller clip than the bundled one, made the same way."""
    folder = tmp_path_factory.mktemp("demo")
    config = SceneConfig(num_frames=3, height=32, width=48, still_camera_weight=0.0)
    write_clip(3, config, folder / "clip.mp4", folder / "truth.npz")
    return folder


def test_demo_prints_errors_against_the_truth(
    run: Run, tiny_folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "BUNDLED", bundle)
    done = run("demo", "-o", tmp_path / "out", "--model", tiny_folder)
    assert done.code == 0, done.err
    scores = demo.score(vdpm.load(tmp_path / "out"), load_ground_truth(bundle / "truth.npz"))
    for name, *numbers in demo.error_rows(scores):
        line = next(line for line in done.out.splitlines() if line.startswith(name))
        for number in numbers:
            assert number in line
    assert {path.name for path in (tmp_path / "out").glob("*.p*")} == {
        "preview.png",
        "points_t00000.ply",
        "points_t00002.ply",
    }
    page = tmp_path / "out" / "scene.html"
    assert str(page) in done.out
    assert page.read_text().startswith("<!doctype html>")
    assert run("demo", "-o", tmp_path / "out", "--model", tiny_folder).code == 5
    twice = run("demo", "-o", tmp_path / "out", "--model", tiny_folder, "--mirror", "--overwrite")
    assert "mean with the mirrored clip" in twice.out
    assert vdpm.load(tmp_path / "out").provenance["mirrored"]


def test_the_truth_itself_has_no_error(bundle: Path, tmp_path: Path, run: Run, tiny_folder: Path) -> None:
    truth = load_ground_truth(bundle / "truth.npz")
    done = run("reconstruct", bundle / "clip.mp4", "-o", tmp_path / "out", "--model", tiny_folder, "--size", 48)
    assert done.code == 0, done.err
    result = vdpm.load(tmp_path / "out")
    maps = vdpm.DynamicPointMaps.from_tensors(
        truth.points,
        truth.valid.float() + 1,
        truth.target_points,
        truth.valid.float().expand(3, -1, -1, -1) + 1,
        num_frames=3,
        targets=(0, 1, 2),
        sources=(0, 1, 2),
    )
    perfect = replace(result, maps=maps, cameras=vdpm.Cameras(truth.c2w, truth.intrinsics, truth.size))
    scores = demo.score(perfect, truth)
    for error in (scores.epe_p, scores.epe_q, scores.depth_abs_rel, scores.rotation, scores.translation, scores.focal):
        assert error == pytest.approx(0, abs=1e-3)
    assert scores.constant_depth_p > 0.05


def test_the_bundled_clip_is_what_its_truth_says() -> None:
    truth = load_ground_truth(demo.BUNDLED / "truth.npz")
    video = vdpm.read_video(demo.BUNDLED / "clip.mp4", max_frames=100, size=max(truth.size))
    assert video.size == truth.size
    assert len(video) == truth.num_frames
    assert float((video.images() - truth.images).abs().mean()) < 0.02
    assert video.timestamps.tolist() == pytest.approx(truth.timestamps.tolist(), abs=0.02)
    assert sum(path.stat().st_size for path in demo.BUNDLED.iterdir()) < 3_000_000


def test_convert_makes_a_folder_that_loads(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    done = run("convert", tiny_folder / "model.safetensors", folder)
    assert done.code == 0, done.err
    assert vdpm.VDPM.from_pretrained(folder).fingerprint() == vdpm.VDPM.from_pretrained(tiny_folder).fingerprint()
    assert f"--model {folder}" in done.out
    again = run("convert", tiny_folder, folder)
    assert again.code == 5
    assert "--overwrite" in again.err


@pytest.mark.parametrize("more", [(), ("--dtype", "int8", "--size", 5, "--update-of", "itself")])
def test_convert_tells_the_place_that_cannot_be_written(
    run: Run, tiny_folder: Path, tmp_path: Path, more: tuple[object, ...]
) -> None:
    (tmp_path / "file").write_text("mine")
    wanted = tmp_path / "file" / "ours"
    words = [tiny_folder if word == "itself" else word for word in more]
    done = run("convert", tiny_folder, wanted, *words)
    assert done.code == 5
    assert f"{wanted} " in done.err
    assert f".{os.getpid()}" not in done.err


@pytest.mark.parametrize("there", [False, True])
def test_convert_to_a_full_disk_tells_the_wanted_file(
    run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    folder = tmp_path / "some name"
    if there:
        assert run("convert", tiny_folder, folder).code == 0

    def full(tensors: object, path: Path, metadata: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint_file, "save_file", full)
    done = run("convert", tiny_folder, folder, *["--overwrite"][: int(there)])
    assert done.code == 5
    assert f"cannot write {folder / 'model.safetensors'} (" in done.err
    assert "No space left on device" in done.err
    assert f".{os.getpid()}" not in done.err


def test_convert_refuses_what_is_no_checkpoint(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("not weights")
    done = run("convert", tmp_path / "model.safetensors", tmp_path / "ours")
    assert done.code == 4
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--step", 0.5), "--dtype int8"),
        (("--size", 5), "--dtype int8"),
        (("--dtype", "int8", "--step", 2), "2"),
        (("--dtype", "int8", "--size", -5), "-5"),
        (("--dtype", "int8", "--step", 0.5, "--size", 5), "one of them"),
        (("--update-of", "vdpm-small"), "--size"),
        (("--update-of", "vdpm-small", "--steps-of", "vdpm-small"), "--dtype int8"),
        (("--dtype", "int8", "--steps-of", "vdpm-small"), "--update-of"),
        (("--dtype", "int8", "--steps-of", "vdpm-small", "--update-of", "vdpm-small", "--step", 0.5), "one of them"),
        (("--dtype", "int8", "--size", 5, "--rank", 4), "--update-of"),
        (("--dtype", "int8", "--update-of", "vdpm-small", "--rank", 4), "--size"),
        (("--dtype", "int8", "--update-of", "vdpm-small", "--steps-of", "vdpm-small", "--rank", 4), "--steps-of"),
        (("--dtype", "int8", "--update-of", "itself", "--size", 5, "--rank", 0), "0"),
        (("--dtype", "int8", "--update-of", "itself", "--size", 5, "--rank", 400), "400"),
        (("--rank", 4), "--rank"),
    ],
)
def test_convert_refuses_a_step_or_size_that_makes_no_sense(
    run: Run, tiny_folder: Path, tmp_path: Path, options: tuple[object, ...], what: str
) -> None:
    words = [tiny_folder if word == "itself" else word for word in options]
    done = run("convert", tiny_folder, tmp_path / "ours", *words)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert what in done.err
    assert not list(tmp_path.glob("*ours*"))


@pytest.mark.parametrize(("earlier", "what"), [("nowhere", "nowhere"), ("vdpm-small", "different networks")])
def test_convert_refuses_an_update_of_other_weights(
    run: Run, tiny_folder: Path, tmp_path: Path, earlier: str, what: str
) -> None:
    done = run("convert", tiny_folder, tmp_path / "ours", "--dtype", "int8", "--size", 5, "--update-of", earlier)
    assert done.code == 4
    assert done.err.count("\n") == 1
    assert what in done.err
    assert not (tmp_path / "ours").exists()


def test_scenes_draws_a_picture(run: Run, tmp_path: Path) -> None:
    done = run("scenes", "-o", tmp_path / "a.png", "--count", 2, "--frames", 2, "--size", 16, 24)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 2 * 2 * 24
    wrong = run("scenes", "-o", tmp_path / "b.png", "--count", 0)
    assert wrong.code == 2
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (True, {"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, False),
        (True, {}, False),
        (False, {"DISPLAY": ":0"}, False),
    ],
)
def test_a_browser_is_opened_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], expected: bool
) -> None:
    monkeypatch.setattr(screen.sys, "platform", "linux")
    monkeypatch.setattr(screen.sys.stdout, "isatty", lambda: terminal)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []
    monkeypatch.setattr(screen.webbrowser, "open", lambda url: asked.append(url) or True)
    assert screen.open_browser("http://localhost", "auto") is expected
    assert asked == ["http://localhost"] * expected
    assert screen.open_browser("http://localhost", "yes")
    assert not screen.open_browser("http://localhost", "no")


def test_the_demo_opens_its_page_when_told(
    bundle: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(demo, "BUNDLED", bundle)
    monkeypatch.setattr(screen.webbrowser, "open", lambda url: asked.append(url) or True)
    done = run("demo", "-o", tmp_path / "out", "--model", tiny_folder, "--open", "yes")
    assert done.code == 0
    assert asked == [(tmp_path / "out" / "scene.html").resolve().as_uri()]
    assert "is open in your browser" in done.out
