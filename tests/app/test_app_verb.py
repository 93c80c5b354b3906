"""``vdpm app`` as a user runs it: a process, its address on the terminal, a video through a tiny network, Ctrl-C."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vdpm
from vdpm.app.workspace import PREFIX
from vdpm.cli import main

pytest.importorskip("uvicorn", reason="the app's server is not installed (pip install '.[app]')")


class Running:
    """A process ``vdpm app`` at a free port; its temporary files lie in ``folder``."""

    def __init__(self, folder: Path, *options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vdpm", "app", "--port", "0", "--open", "no", *map(str, options)],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        line = ""
        for line in self.process.stdout:
            if "http://" in line:
                break
        self.address = line.split()[1]
        self.port = int(self.address.split(":")[2].split("/")[0])
        self.key = self.address.split("#key=")[1]

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"X-Vdpm-Key": self.key, "X-Vdpm-Name": "clip.mp4", "Content-Type": "application/octet-stream"}
        if method != "GET":
            headers["Origin"] = f"http://127.0.0.1:{self.port}"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 300, content
        return content

    def jobs(self) -> list[dict[str, Any]]:
        return json.loads(self.ask("GET", "/api/state"))["jobs"]

    def end(self, number: int) -> tuple[int, str]:
        """Exit code and what was still said."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def running(tmp_path: Path, tiny_folder: Path) -> Iterator[Running]:
    (tmp_path / "tmp").mkdir()
    app = Running(
        tmp_path / "tmp", "--model", tiny_folder, "--size", 32, "--device", "cpu", "--keep", tmp_path / "keep"
    )
    yield app
    app.process.kill()
    app.process.wait()


def test_a_video_through_it(running: Running, clip: Path, tmp_path: Path) -> None:
    running.ask("POST", "/api/jobs?frames=3", clip.read_bytes())
    end = time.monotonic() + 60
    seen: list[float] = []
    while (job := running.jobs()[0])["state"] not in ("done", "failed"):
        seen.append(job["progress"])
        assert time.monotonic() < end
        time.sleep(0.02)
    assert job["state"] == "done", job
    assert job["error"] == ""
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "progress was to be seen"
    id = job["id"]
    zipfile.ZipFile(io.BytesIO(running.ask("GET", f"/jobs/{id}/result.zip"))).extractall(tmp_path)
    result = vdpm.load(tmp_path / "clip_result")
    assert (len(result), result.name) == (3, "clip.mp4")
    assert running.ask("GET", f"/jobs/{id}/scene.html").startswith(b"<!doctype html>")
    assert running.ask("GET", f"/jobs/{id}/scene.glb")[:4] == b"glTF"
    assert len(zipfile.ZipFile(io.BytesIO(running.ask("GET", f"/jobs/{id}/points.zip"))).namelist()) == 4
    assert running.ask("GET", f"/jobs/{id}/poster.jpg")[:2] == b"\xff\xd8"

    code, said = running.end(signal.SIGINT)
    assert code == 0
    assert said.strip() == f"Ended. Results: {tmp_path / 'keep'}"
    (kept,) = (tmp_path / "keep").iterdir()
    assert vdpm.load(kept / "result").name == "clip.mp4"
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_ends_remove_all_files_too(tmp_path: Path, tiny_folder: Path, clip: Path, number: int) -> None:
    app = Running(tmp_path, "--model", tiny_folder, "--device", "cpu")
    app.ask("POST", "/api/jobs", clip.read_bytes())
    assert list(tmp_path.glob(f"{PREFIX}*/20*"))
    code, said = app.end(number)
    assert (code, said.strip()) == (0, "Ended.")
    assert list(tmp_path.iterdir()) == []


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["app", "--open", "no", *map(str, words)])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return code, said


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("vdpm.cli.app.find_spec", lambda name: None)
    code, said = complaint(capsys)
    assert code == 1
    assert "pip install 'vdpm[app]'" in said


@pytest.mark.parametrize("size", [0, -1, 10**9])
def test_a_size_that_no_job_could_have(capsys: pytest.CaptureFixture[str], size: int) -> None:
    assert complaint(capsys, "--port", 0, "--size", size) == (
        2,
        f"vdpm: error: --size {size} must be from 8 to 2048 pixels\n",
    )


def test_weights_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = complaint(capsys, "--port", 0, "--model", "no_such_folder")
    assert code == 4
    assert "no weights at no_such_folder" in said


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = complaint(capsys, "--port", taken.getsockname()[1])
    assert code == 5
    assert "--port" in said


@pytest.mark.parametrize(
    "words",
    [
        *(("--port", 70000), ("--max-upload", 0), ("--max-upload", "nan"), ("--max-frames", 1), ("--queue", 0)),
        *(("--max-seconds", 0), ("--max-minutes", -1), ("--results", 0)),
    ],
)
def test_options_out_of_range(capsys: pytest.CaptureFixture[str], words: tuple[object, ...]) -> None:
    assert complaint(capsys, *words)[0] == 2
