"""One job after the other: to its end, cancelled, removed, or taken down without taking the app with it."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.running_app import FAKE, RunningApp, wait_until
from vdpm.app.limits import Limits

Start = Callable[..., RunningApp]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(app: RunningApp) -> list[int]:
    """Processes of the job at work."""
    found: list[int] = []

    def told() -> bool:
        found[:] = [int(pid) for path in app.base.glob("*/pids") for pid in path.read_text().split()]
        return bool(found)

    wait_until(told)
    return found


def test_a_job_from_upload_to_download(app: RunningApp) -> None:
    id = app.upload("fine", "my%20holiday.mp4", "?frames=8&start=0.5&end=2")
    job = app.wait(id, "done")
    assert job["label"] == "my holiday.mp4"
    assert job["choice"] == {"frames": 8, "start": 0.5, "end": 2.0}
    assert job["error"] == ""
    task = next(app.base.glob("*/task.json")).read_text()
    assert '"label": "my holiday.mp4"' in task
    assert '"frames": 8' in task

    page = app.ask("GET", f"/jobs/{id}/scene.html")
    assert page.body == b"<!doctype html>"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert "content-disposition" not in page.headers
    for name, held, saved in (
        ("scene.html", b"<!doctype html>", "my_holiday.html"),
        ("scene.glb", b"glTF", "my_holiday.glb"),
    ):
        answer = app.ask("GET", f"/jobs/{id}/{name}?save=1")
        assert answer.body == held
        assert answer.headers["content-disposition"] == f'attachment; filename="{saved}"'
    part = app.ask("GET", f"/jobs/{id}/scene.glb", Range="bytes=1-2")
    assert (part.status, part.body) == (206, b"lT")

    archive = zipfile.ZipFile(io.BytesIO(app.ask("GET", f"/jobs/{id}/result.zip").body))
    assert archive.testzip() is None
    assert archive.namelist() == ["my_holiday_result/maps/p.npy", "my_holiday_result/preview.png"]
    assert archive.read("my_holiday_result/maps/p.npy") == b"maps" * 1000
    clouds = zipfile.ZipFile(io.BytesIO(app.ask("GET", f"/jobs/{id}/points.zip").body))
    assert clouds.namelist() == ["my_holiday_points/points_t00000.ply"]


def test_headers_of_every_answer(app: RunningApp) -> None:
    id = app.upload("fine")
    app.wait(id, "done")
    for path in ("/", "/app.js", "/app.css", "/api/state", f"/jobs/{id}/scene.html", f"/jobs/{id}/result.zip", "/none"):
        headers = app.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy or policy.startswith("sandbox allow-scripts;")
        assert headers["x-frame-options"] == ("SAMEORIGIN" if "scene" in path else "DENY")
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("fail", "clip.mp4: not a video"),
        ("crash", "signal 11"),
        ("killed", "lack of memory; take fewer frames"),
        ("silent", "exit code 7"),
        ("garbage", "said what it should not"),
        ("list", "said what it should not"),
    ],
)
def test_a_job_that_goes_wrong_is_told_in_one_line_and_the_next_one_runs(app: RunningApp, does: str, says: str) -> None:
    failed, after = app.upload(does), app.upload("fine")
    job = app.wait(failed, "failed")
    assert says in job["error"]
    assert job["error"].startswith("clip.mp4: ")
    assert "\n" not in job["error"]
    assert app.ask("GET", f"/jobs/{failed}/scene.html").status == 404
    app.wait(after, "done")
    assert len(list(app.base.glob("20*"))) == 1, "what failed leaves no files"


def test_a_crash_after_the_result_leaves_the_result(app: RunningApp) -> None:
    id = app.upload("latecrash")
    job = app.wait(id, "done")
    assert "signal 11" in job["error"]
    assert "the result is whole" in job["error"]
    assert app.ask("GET", f"/jobs/{id}/scene.html").status == 200
    assert app.ask("GET", f"/jobs/{id}/scene.glb").status == 404


@pytest.mark.parametrize("does", ["sleep", "stubborn"])
def test_cancelling_what_runs_ends_its_processes(app: RunningApp, does: str) -> None:
    id, after = app.upload(does), app.upload("fine")
    running = pids(app)
    assert all(map(alive, running))
    assert app.wait(id, "running")["stage"] in ("opening the video", "decoding times")
    assert app.ask("POST", f"/api/jobs/{id}/cancel").status == 200
    assert app.job(id)["state"] == "cancelled"
    wait_until(lambda: not any(map(alive, running)))
    app.wait(after, "done")
    assert len(list(app.base.glob("20*"))) == 1


def test_cancelling_what_waits(app: RunningApp) -> None:
    first, second, third = app.upload("sleep"), app.upload("fine"), app.upload("fine")
    assert [app.job(id)["ahead"] for id in (first, second, third)] == [0, 1, 2]
    app.ask("POST", f"/api/jobs/{second}/cancel")
    assert app.job(second)["state"] == "cancelled"
    assert app.job(third)["ahead"] == 1
    app.ask("DELETE", f"/api/jobs/{first}")
    app.wait(third, "done")
    assert app.job(second)["state"] == "cancelled"


def test_cancelling_while_downloads_are_written_keeps_the_result(app: RunningApp) -> None:
    id = app.upload("late")
    pids(app)
    wait_until(lambda: bool(app.job(id)["facts"]))
    assert app.ask("GET", f"/jobs/{id}/scene.html").status == 200
    app.ask("POST", f"/api/jobs/{id}/cancel")
    assert app.job(id)["state"] == "done"
    assert app.ask("GET", f"/jobs/{id}/result.zip").status == 200


@pytest.mark.parametrize("does", ["fine", "late", "sleep"])
def test_removing_leaves_nothing(app: RunningApp, does: str) -> None:
    id = app.upload(does)
    if does == "fine":
        app.wait(id, "done")
    else:
        pids(app)
    assert app.ask("DELETE", f"/api/jobs/{id}").status == 200
    wait_until(lambda: app.files() == [])
    assert app.ask("GET", "/api/state").data["jobs"] == []
    assert app.ask("GET", f"/jobs/{id}/scene.html").status == 404
    assert app.ask("DELETE", f"/api/jobs/{id}").status == 404
    app.wait(app.upload("fine"), "done")


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(app: RunningApp) -> None:
    running = app.upload("sleep")
    app.wait(running, "running")
    waiting = [app.upload("fine") for _ in range(3)]
    pids(app)  # after which the running job writes no more files
    before = app.files()
    refused = app.ask("POST", "/api/jobs", b"x" * 90_000, X_Vdpm_Name="one too many")
    assert refused.status == 429
    assert refused.data["error"] == "3 videos wait already; try again when one is done"
    assert app.files() == before
    app.ask("DELETE", f"/api/jobs/{waiting[0]}")
    waiting.append(app.upload("fine"))
    app.ask("POST", f"/api/jobs/{running}/cancel")
    for id in waiting[1:]:
        app.wait(id, "done")


def test_the_oldest_results_go(app: RunningApp) -> None:
    ids = []
    for _ in range(5):
        ids.append(app.upload("fine"))
        app.wait(ids[-1], "done")
    wait_until(lambda: len(app.ask("GET", "/api/state").data["jobs"]) == 3)
    assert [job["id"] for job in app.ask("GET", "/api/state").data["jobs"]] == ids[2:]
    wait_until(lambda: len(list(app.base.glob("20*"))) == 3)


def test_what_takes_too_long_is_given_up(start: Start) -> None:
    app = start(Limits(minutes=0.08))
    job = app.wait(app.upload("sleep"), "failed")
    assert job["error"] == "clip.mp4: stopped after 0.08 minutes; take fewer frames"
    app.wait(app.upload("fine"), "done")


def test_the_end_of_the_app_ends_its_jobs_and_removes_their_files(start: Start) -> None:
    app = start()
    app.wait(app.upload("fine"), "done")
    app.upload("sleep")
    running = pids(app)
    app.upload("fine")
    app.close()
    app.close = lambda: None  # type: ignore[method-assign]
    assert not any(map(alive, running))
    assert not app.base.exists()


def test_results_in_a_folder_of_the_users_stay(start: Start, tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "mine.txt").write_text("mine")
    app = start(Limits(results=1), keep=tmp_path / "keep")
    first, second = app.upload("fine"), app.upload("fine")
    app.wait(second, "done")
    wait_until(lambda: all(job["id"] != first for job in app.ask("GET", "/api/state").data["jobs"]))
    third = app.upload("fine")
    app.wait(third, "done")
    app.ask("DELETE", f"/api/jobs/{third}")
    app.upload("sleep")
    pids(app)
    app.close()
    app.close = lambda: None  # type: ignore[method-assign]
    kept = sorted((tmp_path / "keep").glob("20*"))
    assert len(kept) == 2, "the one that was deleted and the one that did not end are gone, those off the list are not"
    assert all((folder / "result" / "preview.png").exists() for folder in kept)
    assert (tmp_path / "keep" / "mine.txt").read_text() == "mine"


def test_a_worker_that_cannot_be_started(start: Start) -> None:
    app = start(command=("/nowhere/python", *FAKE[1:]))
    job = app.wait(app.upload("fine"), "failed")
    assert "FileNotFoundError" in job["error"]


def test_an_empty_file(app: RunningApp) -> None:
    refused = app.ask("POST", "/api/jobs", b"", X_Vdpm_Name="empty.mp4")
    assert (refused.status, refused.data["error"]) == (400, "empty.mp4: the file is empty")
    assert app.files() == []


def test_a_full_disk(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.workspace, "free_bytes", lambda: 1000)
    refused = app.ask("POST", "/api/jobs", b"fine")
    assert refused.status == 507
    assert "disk" in refused.data["error"]


def test_uploads_at_once_each_keep_their_own_content(app: RunningApp) -> None:
    def parts(word: str) -> Any:
        for _ in range(50):
            yield word.encode() * 10

    for word in ("a", "b"):
        assert app.ask("POST", "/api/jobs", parts(word)).status == 201
    ids = [job["id"] for job in app.ask("GET", "/api/state").data["jobs"]]
    for id in ids:
        app.wait(id, "done")
    contents = sorted(path.read_bytes()[:1] for path in app.base.glob("*/video"))
    assert contents == [b"a", b"b"]


def test_only_the_user_may_read_a_jobs_files(app: RunningApp) -> None:
    app.wait(app.upload("fine"), "done")
    for folder in (app.base, *app.base.glob("20*")):
        assert os.stat(folder).st_mode & 0o077 == 0
