"""``vdpm view``: one line for each mistake, and an end that is clean."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from fixtures.moving_sphere import make_moving_sphere
from fixtures.outcome import Run
from vdpm.archive import save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "result"
    save(make_moving_sphere(num_frames=3, size=(32, 48)).reconstruction, folder)
    return folder


@pytest.fixture
def viser() -> None:
    pytest.importorskip("viser", reason="viser is not installed (pip install 'vdpm[view]')")


def test_a_foreign_or_broken_folder(run: Run, saved: Path, tmp_path: Path, viser: None) -> None:
    (tmp_path / "foreign").mkdir()
    broken = shutil.copytree(saved, tmp_path / "broken")
    maps = broken / "maps" / "p.npy"
    maps.write_bytes(maps.read_bytes()[:-100])
    late = shutil.copytree(saved, tmp_path / "late")
    maps = late / "maps" / "q_00002.npy"
    content = bytearray(maps.read_bytes())
    content[-400:] = b"\xff" * 400
    maps.write_bytes(content)
    for folder in ("nowhere", "foreign", "broken", "late"):
        failed = run("view", tmp_path / folder, "--port", 18600)
        assert failed.code == 3, failed.err
        assert failed.err.count("\n") == 1
        assert folder in failed.err
    failed = run("view", saved, "--compare", tmp_path / "foreign")
    assert failed.code == 3
    assert "foreign" in failed.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--points", 0), 2),
        (("--frames", 0), 2),
        (("--times", 0), 2),
        (("--port", 0), 2),
        (("--port", 70000), 2),
        (("--min-confidence", 0), 2),
        (("--host", "203.0.113.9"), 1),
        (("--compare", "truth"), 3),
    ],
)
def test_options_that_cannot_be(run: Run, saved: Path, words: tuple[object, ...], code: int, viser: None) -> None:
    failed = run("view", saved, *words)
    assert failed.code == code
    assert failed.err.count("vdpm: error:") == 1
    assert failed.err.count("\n") == 1


def test_a_result_of_nothing(run: Run, saved: Path, viser: None) -> None:
    failed = run("view", saved, "--min-confidence", 1000, "--port", 18620)
    assert failed.code == 3
    assert "--min-confidence" in failed.err


def test_without_viser(run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    failed = run("view", saved)
    assert failed.code == 1
    assert failed.err == (
        "vdpm: error: the live viewer needs viser, which is not installed: pip install 'vdpm[view]'\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_port_in_use_and_the_end(saved: Path, viser: None, number: int) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "vdpm", "view", str(saved), "--port", str(port)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(f"Port {port} is in use; this is on ")
            line = process.stdout.readline()
            url = line.split(" is at ")[1].split()[0]
            assert url != f"http://localhost:{port}"
            with urllib.request.urlopen(url, timeout=20) as page:
                assert page.status == 200
            time.sleep(0.5)
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert err == ""
    assert out == "\nEnded.\n", "nothing of viser's own is said"
