"""More than 200 attacks on a viewer: refused, without a file of another folder, and the server stays alive.

Every request is sent as bytes through a socket, because a client library tidies what it sends. A planted file outside
the run holds a word that no answer may contain.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from report_run import HOSTILE, Plan, PlantedRun
from viewing import Visit, make_viewed_run, open_planted, visit

CANARY = "canary-7f3b2c9e"
REFUSED = {0, 400, 401, 403, 404, 405, 413, 414, 431}  # 0: closed without an answer


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Visit, PlantedRun]]:
    """A viewer beside files with a canary: neighbors of the run, links, a pipe."""
    root = tmp_path_factory.mktemp("victim")
    planted_run = make_viewed_run(root, Plan(size=32))
    run = planted_run.run.root
    (root / "secret.txt").write_text(CANARY)
    (root / "runs/pilot_evil").mkdir()
    (root / "runs/pilot_evil/run.json").write_text(CANARY)
    (run / "notes.txt").write_text(CANARY)  # in the run, but not shown by the viewer
    os.link(root / "secret.txt", run / "hard.txt")
    os.mkfifo(run / "pipe")
    with visit(open_planted(planted_run)) as viewer:
        yield viewer, planted_run


def request(
    target: str | bytes,
    visit: Visit,
    *,
    method: str = "GET",
    host: str | None = "",
    cookie: str | None = "",
    extra: str = "",
) -> bytes:
    """Return a request as bytes; "" stands for the right host and cookie, None leaves it out."""
    path = target if isinstance(target, bytes) else target.encode("utf-8", "surrogateescape")
    lines = "" if host is None else f"Host: {host or f'127.0.0.1:{visit.port}'}\r\n"
    lines += "" if cookie is None else f"Cookie: {cookie or visit.cookie}\r\n"
    head = f"{lines}{extra}Connection: close\r\n\r\n".encode("utf-8", "surrogateescape")
    return method.encode() + b" " + path + b" HTTP/1.1\r\n" + head


SECRETS = ("secret.txt", "etc/passwd", "runs/pilot_evil/run.json")
UPS = (
    *("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "%252e%252e%252f", "..;/", "....//", "..\\", "..%5c", "%c0%ae%c0%ae/"),
    *("%2e%2e%5c", "..%c0%af", "..%00/", "..%ff/", ".%2e/", "%uff0e%uff0e/"),
)
HEADS = ("/assets/", "/api/sites/", "/")
TRAVERSAL = [
    *(f"{head}{up * 6}{SECRETS[k % 3]}" for k, up in enumerate(UPS) for head in HEADS),
    *("//proc/self/root/etc/passwd", "/assets//etc/passwd", "/assets//proc/self/environ", "/assets/%2fetc%2fpasswd"),
    *("file:///etc/passwd", "/assets/file:///etc/passwd", "/assets/#/../../secret.txt", "/assets/?/../../secret.txt"),
    *("/assets/index.html%00.js", "/assets/index.html/../../app.py", "/assets/C:\\secret.txt", "/assets/C:/secret.txt"),
    *("/assets/\\\\server\\share\\a", "/assets/%5c%5cserver%5cshare", "/assets/hard.txt", "/assets/pipe"),
    *("/assets/notes.txt", "/notes.txt", "/run.json", "/manifest.json", "/predictions/sites.parquet", "/assets/."),
    *("/assets/..", "/assets/~root/.ssh/id_rsa", "/assets/app.py", "/assets/__init__.py", "/assets/", "/api/"),
    *("/api/sites/../../../secret.txt/image", "/api/tables/../../secret.txt", "/api/tables/%2e%2e%2fhits.csv"),
    *("/api/sites/0%2f..%2f..%2fsecret/image", "/api/wells/0;/../../secret.txt", "/api/sites/0/channels/..%2f0"),
]
HOSTS = [
    *("evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example:{port}"),
    *("0.0.0.0:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", "localhost.:{port}"),
    *("127.0.0.1.:{port}", "2130706433:{port}", "0177.0.0.1:{port}", "0x7f000001:{port}", "127.1:{port}"),
    *("user@127.0.0.1:{port}", "127.0.0.1:{port}@evil.example", "[::ffff:127.0.0.1]:{port}", "LOCALHOST.:{port}"),
    *("127.0.0.1:0{port}", "127.0.0.1:{port}/", "evil.example, 127.0.0.1:{port}"),
]
ORIGINS = [
    *("Origin: http://evil.example", "Origin: null", "Origin: http://127.0.0.1", "Origin: http://127.0.0.1:1"),
    *("Origin: https://127.0.0.1:{port}", "Origin: http://127.0.0.1:{port}.evil.example", "Origin: file://"),
    *("Origin: http://localhost.evil.example:{port}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"),
    *("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors"),
    *("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe", "Sec-Fetch-Site: x"),
    *("Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: cross-site", "Origin:  "),
]
COOKIES = [
    *(None, "a=b", "{name}=", "{name}=wrong", "{name}={half}", "{name}={token}x", "{name}={upper}", "{name}= "),
    *("{name}x={token}", "x{name}={token}", "{name2}={token}", "token={token}", '{name}="', "{name}=%00{token}"),
    *("{name}={token}%0d%0aSet-Cookie:%20a=b",),
]
QUERY_TOKENS = [
    *("/api/summary?token={token}", "/assets/index.html?token={token}", "/?token={half}", "/?token="),
    *("/?token={token}&token=wrong", "/plates?token={upper}", "/?Token={token}", "/?token={token}%00"),
]
METHODS = ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "get", "GETS", "DEBUG"]
INJECTIONS = [
    *("/api/tables/hits.csv%0d%0aX-Evil:%201", "/api/tables/hits%0d%0a.csv", "/?token=a%0d%0aSet-Cookie:a=b"),
    *("/%0d%0aX-Evil:%201", "/api/points?of=<script>", "/api/points?of=%3Csvg%20onload%3D1%3E", "/well/1'--"),
    *("/api/sites/0/composite.png?c=0,ffffff,0,1,1%0a", "/api/sites/0/composite.png?c=${{7*7}}", "/api/sites/$(id)"),
    *("/api/sites/0/composite.png?c=0,%3Csvg%3E,0,1,1", "/api/sites/0/image%1b%5b2J", "/api/tables/=cmd|'/c calc'!A1"),
    *("/api/wells/1%20OR%201=1", "/api/wells/١", "/api/wells/0x1", "/api/wells/1e3", "/api/wells/+1", "/api/wells/1.0"),
    *("/api/wells/-1", "/well/1\x1b[2J", "/api/tables/{{hits}}", "/well/1%0a"),
]
RESOURCES = [
    *("/api/maps/../../secret.txt", "/api/maps/-1", "/api/maps/0x0", "/api/pair/wells/-1", "/api/pair/wells/1e3"),
    *("/api/pair/sites/..%2f..%2fsecret/attribution", "/api/pair/../../secret.txt", "/api/pair/sites/0/"),
    *("/api/sites/1000000000/image", "/api/sites/99999999999999999999999/image", "/api/wells/" + "9" * 4000),
    *("/api/sites/0/channels/0?level=-1", "/api/sites/0/channels/0?level=1000000000"),
    "/api/sites/0/channels/0?level=NaN",
    *("/api/sites/0/channels/999", "/api/sites/0/channels/0?level=1e9", "/api/sites/0/composite.png?level=64"),
    *("/api/sites/0/composite.png?c=0,ffffff,NaN,1,1", "/api/sites/0/composite.png?c=0,ffffff,0,inf,1"),
    *("/api/sites/0/composite.png?c=0,ffffff,0,1,1e9", "/api/sites/0/composite.png?c=0,ffffff,0,1,0"),
    *("/api/sites/0/composite.png?c=0,ffffff,0,1," + "9" * 5000,),
    "/api/sites/0/composite.png?" + "c=0,ffffff,0,1,1&" * 40,
    *("/api/summary?" + "a" * 9000, "/api/summary?" + "&".join(f"a{k}=1" for k in range(500)), "/" + "a" * 9000),
    *("/api/sites/0/composite.png?c=" + ",".join(map(str, range(2500))),),
]  # fmt: skip


def fill(text: str, visit: Visit) -> str:
    name, _, token = visit.cookie.partition("=")
    values = {
        "port": visit.port,
        "name": name,
        "name2": f"distangle-{visit.port + 1}",
        "token": token,
        "half": token[: len(token) // 2],
        "upper": token.swapcase(),
    }
    for word, value in values.items():
        text = text.replace(f"{{{word}}}", str(value))
    return text


def attacks(viewer: Visit) -> dict[str, bytes]:
    """Return every attack by its name."""
    port = viewer.port
    good = request("/api/summary", viewer)
    attack_answers = {f"path {target!r}"[:90]: request(target, viewer) for target in TRAVERSAL}
    attack_answers |= {f"host {h}": request("/api/summary", viewer, host=fill(h, viewer)) for h in HOSTS}
    attack_answers |= {f"host {h} page": request("/", viewer, host=fill(h, viewer)) for h in HOSTS[:4]}
    attack_answers |= {
        "no host": request("/api/summary", viewer, host=None),
        "two hosts": request("/api/summary", viewer, extra="Host: evil.example\r\n"),
        "empty host": good.replace(f"Host: 127.0.0.1:{port}".encode(), b"Host: "),
        "forwarded host": request("/", viewer, host="evil.example", extra=f"X-Forwarded-Host: 127.0.0.1:{port}\r\n"),
        "absolute form": request("http://evil.example/api/summary", viewer),
        "absolute form of this host": request(f"http://127.0.0.1:{port}/../secret.txt", viewer),
    }
    attack_answers |= {
        f"origin {o!r}": request("/api/summary", viewer, extra=fill(o, viewer) + "\r\n") for o in ORIGINS
    }
    attack_answers |= {
        f"cookie {c}": request("/api/summary", viewer, cookie=None if c is None else fill(c, viewer)) for c in COOKIES
    }
    for path in ("/", "/assets/index.html", "/api/sites/0/image", "/api/tables/hits.csv"):
        attack_answers[f"no cookie {path}"] = request(path, viewer, cookie=None)
    attack_answers |= {f"token {q}": request(fill(q, viewer), viewer, cookie=None) for q in QUERY_TOKENS}
    attack_answers |= {f"method {m}": request("/api/summary", viewer, method=m) for m in METHODS}
    body = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    attack_answers |= {
        "body": request("/api/summary", viewer, extra="Content-Length: 5\r\n") + b"hello",
        "both lengths": request("/api/summary", viewer, extra=body) + b"0\r\n\r\n",
        "two lengths": request("/api/summary", viewer, extra="Content-Length: 0\r\nContent-Length: 5\r\n") + b"hello",
        "negative length": request("/api/summary", viewer, extra="Content-Length: -1\r\n"),
        "chunked": request("/api/summary", viewer, extra="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        "obscured chunked": request("/api/summary", viewer, extra="Transfer-Encoding: xchunked\r\n"),
        "space before the colon": request("/api/summary", viewer, extra="X-Evil : 1\r\n"),
        "folded header": request("/api/summary", viewer, extra="X-A: 1\r\n 2\r\n", host="evil.example"),
        "huge header": request("/api/summary", viewer, extra=f"X-A: {'a' * 20000}\r\n"),
        "many headers": request("/api/summary", viewer, extra="".join(f"X-{k}: 1\r\n" for k in range(200))),
        "version 0.9": b"GET /api/summary\r\n\r\n",
        "version 3.0": good.replace(b"HTTP/1.1", b"HTTP/3.0"),
        "version 1.0 without host": b"GET /api/summary HTTP/1.0\r\n\r\n",
        "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "zeros": bytes(4096),
        "carriage return in the path": request("/api\r/summary", viewer),
        "space in the path": request("/api /summary", viewer),
        "upgrade": request("/nothing", viewer, extra="Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        "unknown encoding": request("/nothing", viewer, extra="Accept-Encoding: ../../secret.txt\r\n"),
        "second request hidden in a body": request("/", viewer, method="POST", extra="Content-Length: 60\r\n")
        + request("/api/summary", viewer, cookie=None),
    }
    attack_answers |= {f"injection {i!r}": request(i, viewer) for i in INJECTIONS}
    attack_answers |= {f"resource {r}"[:90]: request(r, viewer) for r in RESOURCES}
    return attack_answers


def is_alive(viewer: Visit) -> bool:
    return viewer.send(request("/api/summary", viewer))[0] == 200


def test_more_than_200_attacks_are_refused(victim: tuple[Visit, PlantedRun]) -> None:
    viewer, planted_run = victim
    answers = attacks(viewer)
    assert len(answers) >= 200
    canary = planted_run.run.root.parent.parent / "secret.txt"
    before = canary.stat().st_atime_ns
    hits = []
    for name, content in answers.items():
        status, answer = viewer.send(content)
        leaks = [
            word for word in (CANARY, "root:x:0", "Traceback", str(planted_run.run.root)) if word.encode() in answer
        ]
        if status not in REFUSED or leaks or b"X-Evil" in answer or b"Set-Cookie" in answer:
            hits.append(f"{name}: status {status}, {leaks}, {answer[:200]!r}")
    assert hits == []
    assert is_alive(viewer)
    assert canary.stat().st_atime_ns == before


def test_the_same_attacks_by_head_are_refused(victim: tuple[Visit, PlantedRun]) -> None:
    viewer, _ = victim
    for target in TRAVERSAL[::3]:
        status, answer = viewer.send(request(target, viewer, method="HEAD"))
        assert status in REFUSED, target
        assert status == 0 or answer.partition(b"\r\n\r\n")[2] == b"", target


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_names_of_this_machine_are_answered(victim: tuple[Visit, PlantedRun], host: str) -> None:
    viewer, _ = victim
    status, _ = viewer.send(request("/api/summary", viewer, host=f"{host}:{viewer.port}"))
    assert status == 200


def test_the_token_becomes_a_cookie_and_leaves_the_url(victim: tuple[Visit, PlantedRun]) -> None:
    viewer, _ = victim
    status, answer = viewer.send(request(f"/well/3?token={viewer.token}&channels=1,2", viewer, cookie=None))
    head = answer.decode().lower()
    assert status == 303
    assert "location: /well/3?channels=1,2\r\n" in head
    assert f"set-cookie: {viewer.cookie.lower()}; httponly; path=/; samesite=strict" in head


@pytest.mark.parametrize("query", ["&a=//evil.example", "&a=%0d%0aX-Evil:1", "&a=b\\..", "&a=https://evil.example"])
def test_a_redirect_stays_on_its_page(victim: tuple[Visit, PlantedRun], query: str) -> None:
    viewer, _ = victim
    _, answer = viewer.send(request(f"/plates?token={viewer.token}{query}", viewer, cookie=None))
    places = [line for line in answer.decode().split("\r\n") if line.lower().startswith("location:")]
    assert len(places) == 1
    assert places[0].partition(" ")[2].startswith("/plates")
    assert b"\r\nX-Evil" not in answer


def test_a_navigation_from_another_page_may_open_a_page_but_no_data(victim: tuple[Visit, PlantedRun]) -> None:
    viewer, _ = victim
    link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    assert viewer.send(request("/plates", viewer, extra=link))[0] == 200
    assert viewer.send(request("/api/plates", viewer, extra=link))[0] == 403
    assert viewer.send(request("/assets/index.html", viewer, extra=link))[0] == 403


ROUTES = (
    *("/", "/plates", "/assets/index.html", "/api/summary", "/api/plates", "/api/sites", "/api/points?of=wells"),
    *("/api/wells/0", "/api/sites/0/image", "/api/sites/0/channels/0", "/api/sites/0/composite.png"),
    *("/api/sites/0/thumbnail.png", "/api/perturbations", "/api/perturbations/0", "/api/tables/hits"),
    *("/api/tables/hits.csv", "/api/training", "/nothing", "/api/wells/99999"),
    *("/api/maps/0", "/api/pair", "/api/pair/wells/0", "/api/pair/sites/0/attribution"),
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.mark.parametrize("path", ROUTES)
def test_every_answer_has_the_headers_of_protection(victim: tuple[Visit, PlantedRun], path: str) -> None:
    viewer, _ = victim
    for cookie in ("", None):  # refused answers too
        _, answer = viewer.send(request(path, viewer, cookie=cookie))
        lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        headers = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in lines}
        assert len(headers) == len(lines), "a header twice"
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in headers)
        assert "server" not in headers


def test_hostile_names_of_a_screen_are_text_in_every_answer(running_viewer: Visit) -> None:
    with running_viewer.client() as client:
        for path in ("/api/plates", "/api/perturbations", "/api/summary", "/api/tables/checks", "/api/wells/0"):
            answer = client.get(path)
            assert answer.headers["content-type"] == "application/json"
            assert "<" not in answer.text, path
        for path in ("/api/tables/hits.csv", "/api/tables/checks.csv"):
            answer = client.get(path)
            assert answer.headers["content-type"].startswith("text/csv")
            assert "attachment" in answer.headers["content-disposition"]
        assert HOSTILE in json.dumps(client.get("/api/perturbations").json()).replace('\\"', '"')


def test_a_slow_request_is_cut_off(victim: tuple[Visit, PlantedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, _ = victim
    monkeypatch.setattr("distangle.web.protocol.READ_SECONDS", 0.4)
    for start in (b"", b"GET /api/summary HTTP/1.1\r\nHost: "):
        with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as connection:
            start_time, answer = time.monotonic(), b"?"
            with contextlib.suppress(ConnectionError):
                for letter in start:
                    connection.sendall(bytes([letter]))
                    time.sleep(0.005)
                answer = connection.recv(100)
            assert answer == b"" or b" 400 " in answer or answer == b"?"
            assert time.monotonic() - start_time < 8
    assert is_alive(viewer)


def test_a_slow_second_request_is_cut_off(victim: tuple[Visit, PlantedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, _ = victim
    monkeypatch.setattr("distangle.web.protocol.READ_SECONDS", 0.4)
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as connection:
        connection.sendall(request("/plates", viewer).replace(b"Connection: close\r\n", b""))
        answer = b""
        while b"</html>" not in answer:
            answer += connection.recv(65536)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert connection.recv(100) == b""


def test_200_connections_at_once_do_no_harm(victim: tuple[Visit, PlantedRun]) -> None:
    viewer, _ = victim
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(viewer.send(request("/api/sites/1/thumbnail.png", viewer), timeout=30)[0])

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 200
    assert is_alive(viewer)


def test_an_unforeseen_error_says_nothing_to_the_client(
    victim: tuple[Visit, PlantedRun], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    viewer, _ = victim
    path = Path("/home/somebody/screen")

    def fail(*_: object) -> None:
        raise RuntimeError(f"{path} \x1b[2J is gone")

    monkeypatch.setattr("distangle.web.app.summarize", fail)
    status, answer = viewer.send(request("/api/summary", viewer))
    assert status == 500
    assert b"somebody" not in answer
    assert b"RuntimeError" not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "This request failed."
    assert "\\x1b" in caplog.text
    assert "\x1b" not in caplog.text
