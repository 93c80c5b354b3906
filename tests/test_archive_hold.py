"""Two runs that want to write to one place at the same time."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from test_archive import writer_of
from vdpm.archive import hold, load, save
from vdpm.errors import OutputError


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(num_frames=3, size=(24, 32))


def keep(place: Path, told: Connection) -> None:
    with hold(place):
        told.send("held")
        told.recv()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """Another process that holds ``out``, and the connection that ends it."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=keep, args=(tmp_path / "out", there))
    process.start()
    assert here.recv() == "held"
    yield process, here
    if process.is_alive():
        here.send("end")
    process.join()


def test_what_another_process_writes_to_is_refused(scene: MovingSphere, tmp_path: Path, other: tuple) -> None:
    process, connection = other
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=rf"out: another run \(process {process.pid}\) writes there; wait"):
            save(scene.reconstruction, tmp_path / "out", overwrite=overwrite)
    save(scene.reconstruction, tmp_path / "elsewhere")
    connection.send("end")
    process.join()
    save(scene.reconstruction, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]


def test_a_killed_process_holds_nothing(scene: MovingSphere, tmp_path: Path, other: tuple) -> None:
    process, _ = other
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / ".out.lock").exists()
    save(scene.reconstruction, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_result_that_grows_is_not_replaced(scene: MovingSphere, tmp_path: Path) -> None:
    """Not even by another thread, which once mixed the maps of two runs."""
    refused: list[OutputError] = []

    def overwrite() -> None:
        with pytest.raises(OutputError, match="another run") as caught:
            save(scene.reconstruction, tmp_path / "out", overwrite=True)
        refused.append(caught.value)

    with writer_of(scene.reconstruction, tmp_path / "out") as writer:
        for _ in range(2):
            thread = threading.Thread(target=overwrite)
            thread.start()
            thread.join()
            writer.write_cameras(scene.reconstruction.cameras)
            writer.write_time_variant(torch.zeros(3, 24, 32, 3), torch.ones(3, 24, 32))
    assert len(refused) == 2
    assert load(tmp_path / "out").provenance["state"] == "partial"
    save(scene.reconstruction, tmp_path / "out", overwrite=True)


def test_one_thread_holds_a_place_as_often_as_it_likes(tmp_path: Path) -> None:
    with hold(tmp_path / "a" / "b" / "out"):
        with hold(tmp_path / "a" / "b" / ".." / "b" / "out"):
            pass
        assert (tmp_path / "a" / "b" / ".out.lock").read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == [], "folders that were made for the lock alone go again"
    with hold(tmp_path / "a" / "out"):
        (tmp_path / "a" / "file").write_text("kept")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(file: object, operation: int) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("vdpm.archive.holding.fcntl.flock", without)
    with hold(tmp_path / "out"):
        assert (tmp_path / ".out.lock").exists()
