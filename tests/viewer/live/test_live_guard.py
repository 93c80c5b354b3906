"""Nobody but the viewer's own page, asked for by a name of this machine, may speak to it."""

import socket
from typing import Any

import pytest

from vdpm.errors import VDPMError
from vdpm.viewer.live.guard import Guard, free_port, is_loopback, refuses_strangers

FOREIGN = ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil.localhost", "localhost.", "0x7f000001")


def exchange(port: int, request: bytes) -> bytes:
    """The first bytes of the answer; nothing where the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(request)
            return connection.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return b""


def handshake(*headers: str, path: str = "/", protocol: str = "viser-v1.1.1") -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        *headers,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {protocol}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def hostile(port: int) -> list[bytes]:
    """Handshakes that a page from elsewhere, a rebound name or a program in the network would send."""
    own, here = f"Host: localhost:{port}", f"http://localhost:{port}"
    origins = [
        *(f"http://{name}" for name in FOREIGN),
        *(f"http://{name}:{port}" for name in FOREIGN),
        "null",
        "",
        "file://",
        "http://localhost",
        f"http://localhost:{port + 1}",
        f"http://127.0.0.1:{port}",
        f"http://[::1]:{port}",
        f"ws://localhost:{port}",
        f"ftp://localhost:{port}",
        f"//localhost:{port}",
        f"localhost:{port}",
        f"{here}/",
        f"{here}.evil.example",
        f"{here}@evil.example",
        f"http://evil.example@localhost:{port}",
        f"{here} http://evil.example",
        f"{here}, http://evil.example",
        f"http://evil.example, {here}",
        "chrome-extension://abcdefghijklmnop",
        "*",
    ]
    requests = [handshake(own, f"Origin: {origin}") for origin in origins]
    # The name was made to lead here: page and server agree on it, and it is none of ours.
    requests += [handshake(f"Host: {name}:{port}", f"Origin: http://{name}:{port}") for name in FOREIGN]
    hosts = ["", "0.0.0.0", f"192.168.1.7:{port}", f"[fe80::1]:{port}", f"localhost:{port}:{port}", "localhost:port"]
    hosts += [f"user@localhost:{port}", f"localhost:{port}/", f"localhost\t:{port}", "a" * 300, f"[localhost]:{port}"]
    requests += [handshake(f"Host: {host}", f"Origin: http://{host}") for host in hosts]
    requests += [
        handshake(own),
        handshake(f"Origin: {here}"),
        handshake(),
        handshake(own, own, f"Origin: {here}"),
        handshake(own, f"Host: evil.example:{port}", f"Origin: {here}"),
        handshake(own, f"Origin: {here}", "Origin: http://evil.example"),
        handshake(own, f"Origin: {here}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: websocket"),
        handshake(own, f"Origin: {here}", f"X-Long: {'x' * 20_000}"),
        handshake(own, f"Origin: {here}", *(f"X-{n}: x" for n in range(300))),
        handshake(own, f"Origin: {'h' * 100_000}"),
        handshake(own, f"Origin: {here}", path="/" + "x" * 20_000),
        handshake(own, path="/vdpm/frame/socket"),
        handshake(own, "Origin: http://evil.example", path="/vdpm/frame/socket"),
        handshake(f"Host: evil.example:{port}", f"Origin: http://evil.example:{port}", path="/vdpm/frame/socket"),
        b"POST" + handshake(own, f"Origin: {here}")[3:],
        handshake(own, "Origin: http://evil.example").replace(b"Upgrade: websocket", b"Upgrade: WebSocket"),
        handshake(own, "Origin: http://evil.example").replace(b"Upgrade: websocket", b"Upgrade: h2c, websocket"),
        handshake(own, "Origin: http://evil.example").replace(b"Upgrade: websocket\r\n", b""),
    ]
    return requests


def test_hostile_handshakes_are_refused_and_the_right_ones_accepted(viewer: Any) -> None:
    port = viewer.port
    requests = hostile(port)
    assert len(requests) >= 50
    assert len(set(requests)) == len(requests)
    for request in requests:
        answer = exchange(port, request)
        assert b" 101 " not in answer.partition(b"\r\n")[0], request[:300]
        assert b"200 OK" not in answer.partition(b"\r\n")[0], request[:300]
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost:9999"):
        # Also through a port that ssh has forwarded from elsewhere.
        for path in ("/", "/vdpm/frame/socket"):
            answer = exchange(port, handshake(f"Host: {name}", f"Origin: http://{name}", path=path))
            assert answer.startswith(b"HTTP/1.1 101 "), name


def test_pages_are_given_to_this_machine_alone_and_cannot_be_framed(viewer: Any) -> None:
    port = viewer.port

    def get(path: str, *headers: str) -> bytes:
        return exchange(port, ("\r\n".join([f"GET {path} HTTP/1.1", *headers]) + "\r\n\r\n").encode())

    own = f"Host: localhost:{port}"
    for path in ("/", "/vdpm/frame", "/vdpm/frame.js", "/vdpm/frame/0-video.jpg"):
        answer = get(path, own)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"x-frame-options: sameorigin" in head
        assert b"cross-origin-resource-policy: same-origin" in head
        assert b"frame-ancestors 'self'" in head
        assert f"connect-src 'self' data: blob: ws://localhost:{port}".encode() in head
        for refused in (
            get(path, "Host: evil.example"),
            get(path, own, "Origin: http://evil.example"),
            get(path, own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
            get(path, own, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        ):
            assert refused.startswith(b"HTTP/1.1 403 ")
    followed = get("/", own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    assert followed.startswith(b"HTTP/1.1 200 ")
    for path in ("/../pyproject.toml", "/%2e%2e/%2e%2e/viewer.py", "/vdpm/frame/99-video.jpg", "/vdpm/frame/0-x.jpg"):
        assert get(path, own).startswith(b"HTTP/1.1 404 ")


def test_who_is_let_in_where_others_can_reach_it() -> None:
    from websockets.datastructures import Headers

    def passes(guard: Guard, host: str) -> bool:
        return guard.refusal(Headers({"Host": host, "Origin": f"http://{host}", "Upgrade": "websocket"})) is None

    everywhere = Guard("0.0.0.0", frozenset({"workstation"}))
    assert all(passes(everywhere, host) for host in ("192.168.1.7:8090", "[fe80::1]:8090", "workstation:8090"))
    assert not any(passes(everywhere, host) for host in (*FOREIGN, "workstation.evil.example"))
    named = Guard("10.0.0.5", frozenset())
    assert passes(named, "10.0.0.5:8090")
    assert not passes(Guard("127.0.0.1"), "10.0.0.5:8090")
    assert not passes(Guard("127.0.0.1"), f"{socket.gethostname()}.evil.example:8090")
    assert [is_loopback(name) for name in ("127.0.0.1", "::1", "127.8.8.8", "0.0.0.0", "10.0.0.5")] == [
        *[True] * 3,
        *[False] * 2,
    ]


def test_a_server_without_a_guard_is_noticed(viser: Any, viewer: Any) -> None:
    assert refuses_strangers("127.0.0.1", viewer.port)
    bare = viser.ViserServer(host="127.0.0.1", port=free_port("127.0.0.1", 18490), verbose=False)
    try:
        assert not refuses_strangers("127.0.0.1", bare.get_port())
    finally:
        bare.stop()


def test_the_way_out_to_the_internet_is_closed(viewer: Any) -> None:
    assert viewer.server.request_share_url() is None


def test_ports_and_addresses(viewer: Any) -> None:
    assert free_port("127.0.0.1", viewer.port) == viewer.port + 1
    with pytest.raises(VDPMError, match="no address of this machine"):
        free_port("203.0.113.9", 18090)
    with pytest.raises(VDPMError, match="no such address"):
        free_port("no such name", 18090)
    with pytest.raises(VDPMError, match="in use"):
        free_port("127.0.0.1", viewer.port, tries=1)
