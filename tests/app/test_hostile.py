"""Requests that are not the user's are refused, and change nothing."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fixtures.running_app import KEY, RunningApp, wait_until


@pytest.fixture
def untouched(app: RunningApp) -> RunningApp:
    """An app with a job that waits for nobody to look at it."""
    app.wait(app.upload("fine"), "done")
    return app


def changed(app: RunningApp) -> list[str]:
    return [job["state"] for job in app.ask("GET", "/api/state").data["jobs"]]


REQUESTS = [("POST", "/api/jobs"), ("DELETE", "/api/jobs/{id}"), ("POST", "/api/jobs/{id}/cancel")]
READS = [("GET", "/"), ("GET", "/api/state"), ("GET", "/jobs/{id}/result.zip"), ("GET", "/app.js")]


def each(app: RunningApp, requests: list[tuple[str, str]], **headers: str | None) -> list[int]:
    id = app.ask("GET", "/api/state").data["jobs"][0]["id"]
    body = {"POST": b"fine", "DELETE": b"", "GET": None}
    return [app.ask(m, path.format(id=id), body[m], **headers).status for m, path in requests]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil.example", "", None]
)
def test_foreign_hosts(untouched: RunningApp, host: str | None) -> None:
    """A name of another site that was made to point here (DNS rebinding)."""
    origin = f"http://{host}"
    assert set(each(untouched, REQUESTS + READS, Host=host, Origin=origin)) <= {400, 403}
    assert changed(untouched) == ["done"]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.1", ""]
)
def test_foreign_origins(untouched: RunningApp, origin: str) -> None:
    origin = origin.format(port=untouched.port)
    assert set(each(untouched, REQUESTS + READS, Origin=origin)) == {403}
    assert changed(untouched) == ["done"]


def test_changes_without_an_origin(untouched: RunningApp) -> None:
    assert set(each(untouched, REQUESTS, Origin=None)) == {403}
    assert changed(untouched) == ["done"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_that_leave_the_origin_out(untouched: RunningApp, site: str) -> None:
    """Pictures, scripts and frames of another page, or of another port of this machine."""
    assert set(each(untouched, READS, Sec_Fetch_Site=site)) == {403}
    followed = untouched.ask("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    assert followed.status == 200, "a link to the app may be followed"
    framed = untouched.ask("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")
    assert framed.status == 403


@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1], KEY + "x", "\u00e9"])
def test_without_the_key(untouched: RunningApp, key: str | None) -> None:
    assert set(each(untouched, [*REQUESTS, ("GET", "/api/state")], X_Vdpm_Key=key)) == {403}
    assert changed(untouched) == ["done"]
    assert KEY not in untouched.ask("GET", "/", X_Vdpm_Key=None).body.decode()


def test_two_hosts_in_one_request(app: RunningApp) -> None:
    with socket.create_connection(("127.0.0.1", app.port), timeout=10) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\nHost: evil.example\r\n\r\n".encode())
        assert raw.recv(100).split()[1] in (b"400", b"403")


def test_fifty_handshakes_for_a_socket_are_refused(app: RunningApp) -> None:
    def shake(row: int) -> bytes:
        origin = app.origin if row % 2 else "http://evil.example"
        lines = (
            "GET /api/state HTTP/1.1",
            f"Host: 127.0.0.1:{app.port}",
            f"Origin: {origin}",
            f"X-Vdpm-Key: {KEY}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        with socket.create_connection(("127.0.0.1", app.port), timeout=10) as raw:
            raw.sendall("\r\n".join((*lines, "", "")).encode())
            return raw.recv(1000).split(b"\r\n")[0]

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(shake, range(50)))
    assert set(answers) == {b"HTTP/1.1 403 Forbidden"}
    assert app.ask("GET", "/api/state").status == 200


def test_an_upload_that_says_it_is_too_large_is_not_read(app: RunningApp) -> None:
    refused = app.ask("POST", "/api/jobs", b"fine", Content_Length="100001", X_Vdpm_Name="big.mp4")
    assert refused.status == 413
    assert refused.data["error"].startswith("big.mp4: larger than the 0 MB")
    assert app.files() == []


def test_an_upload_without_a_length_is_cut_off_at_the_limit(app: RunningApp) -> None:
    largest = 0
    with socket.create_connection(("127.0.0.1", app.port), timeout=20) as raw:
        lines = (
            "POST /api/jobs HTTP/1.1",
            f"Host: 127.0.0.1:{app.port}",
            f"Origin: {app.origin}",
            f"X-Vdpm-Key: {KEY}",
            "Content-Type: application/octet-stream",
            "Transfer-Encoding: chunked",
        )
        raw.sendall("\r\n".join((*lines, "", "")).encode())
        sent, answer = 0, b""
        part = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
        raw.settimeout(0.01)
        while sent < 5_000_000 and not answer:
            try:
                raw.sendall(part)
                sent += 10_000
                answer = raw.recv(1000)
            except TimeoutError:
                pass
            except OSError:
                break
            largest = max([largest, *(path.stat().st_size for path in app.base.glob("*/video"))])
    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 4_000_000, "the connection was closed soon after the limit"
    assert largest <= 100_000
    wait_until(lambda: app.files() == [])
    assert app.ask("GET", "/api/state").data["jobs"] == []


def test_an_upload_that_breaks_off_leaves_nothing(app: RunningApp) -> None:
    head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\nOrigin: {app.origin}\r\nX-Vdpm-Key: {KEY}\r\n"
    head += "Content-Type: application/octet-stream\r\nContent-Length: 90000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", app.port), timeout=10) as raw:
        raw.sendall(head.encode() + b"x" * 50_000)
        wait_until(lambda: any(path.stat().st_size for path in app.base.glob("*/video")))
        assert changed(app) == ["uploading"]
    wait_until(lambda: app.files() == [])
    assert changed(app) == []


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/vdpm_was_here.mp4",
        "..%2f..%2f..%2ftmp%2fvdpm_was_here.mp4",
        "/etc/vdpm_was_here",
        "..\\..\\vdpm_was_here.mp4",
        "vdpm_was_here%00.mp4",
        "vdpm_was_here%0d%0aSet-Cookie:%20a=b.mp4",
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22vdpm_was_here",
        "vdpm_was_here" * 60,
        "%ff%fe",
        "",
    ],
)
def test_names_of_files_reach_no_path_and_no_header(app: RunningApp, name: str) -> None:
    id = app.upload("fine", name)
    label = app.wait(id, "done")["label"]
    assert label
    assert len(label) <= 100
    assert "/" not in label
    assert "\\" not in label
    assert label.isprintable()
    assert not any("vdpm_was_here" in path for path in app.files())
    page = app.ask("GET", f"/jobs/{id}/scene.html?save=1")
    assert page.status == 200
    assert "set-cookie" not in page.headers
    disposition = page.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="')
    assert disposition.count('"') == 2
    assert "<" not in disposition


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/{id}/../../../../etc/passwd",
        "/jobs/{id}/..%2f..%2f..%2fetc%2fpasswd",
        "/jobs/{id}/%2e%2e/lock",
        "/jobs/{id}/video",
        "/jobs/{id}/task.json",
        "/jobs/{id}/result",
        "/jobs/../lock",
        "/jobs/%2e%2e/lock",
        "/jobs/{folder}/scene.html",
        "/lock",
        "//etc/passwd",
        "/app.js/../serve.py",
    ],
)
def test_paths_lead_nowhere_else(untouched: RunningApp, path: str) -> None:
    id = untouched.ask("GET", "/api/state").data["jobs"][0]["id"]
    folder = untouched.files()[0].split("/")[0]
    answer = untouched.ask("GET", path.format(id=id, folder=folder))
    assert answer.status == 404
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_files_of_a_job_are_reached_by_its_secret_name_alone(untouched: RunningApp) -> None:
    id = untouched.ask("GET", "/api/state").data["jobs"][0]["id"]
    assert len(id) >= 22, "128 bits"
    assert untouched.ask("GET", f"/jobs/{id}/scene.html", X_Vdpm_Key=None).status == 200
    assert untouched.ask("GET", f"/jobs/{id[:-1]}x/scene.html").status == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods(app: RunningApp, method: str) -> None:
    for path in ("/", "/api/state", "/api/jobs"):
        assert app.ask(method, path).status == 405


def test_forms_of_other_pages_cannot_upload(app: RunningApp) -> None:
    for kind in ("multipart/form-data; boundary=a", "text/plain", "application/x-www-form-urlencoded"):
        assert app.ask("POST", "/api/jobs", b"fine", Content_Type=kind).status == 415
    assert app.files() == []


@pytest.mark.parametrize(
    "query",
    [
        *("frames=1", "frames=25", "frames=-3", "frames=1e3", "frames=", "frames=%D9%A3"),
        *("start=-1", "start=nan", "end=inf", "start=5&end=2", "start=" + "1" * 30, "model=/etc/passwd"),
    ],
)
def test_options_out_of_range(app: RunningApp, query: str) -> None:
    refused = app.ask("POST", f"/api/jobs?{query}", b"fine")
    assert refused.status == 400
    assert "\n" not in refused.data["error"]
    assert app.files() == []


def test_heads_without_an_end_do_not_stop_the_others(app: RunningApp) -> None:
    slow = [socket.create_connection(("127.0.0.1", app.port), timeout=10) for _ in range(30)]
    for raw in slow:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: 127")
    assert app.ask("GET", "/api/state").status == 200
    with socket.create_connection(("127.0.0.1", app.port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert raw.recv(100).split()[1] in (b"400", b"431")
    for raw in slow:
        raw.close()
    time.sleep(0.05)
    assert app.ask("GET", "/").status == 200
