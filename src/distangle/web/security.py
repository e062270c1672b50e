"""Decide which requests are answered, and add the headers of every answer."""

import hmac
import logging
import re
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distangle.web.answers import AnswerError, error_response

MAX_TARGET = 8192  # bytes of path and query
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024
MAX_PARAMETERS = 64
TOKEN_BYTES = 32
MAX_THREADS = 8  # requests that are worked on at once; the others wait
LOG = logging.getLogger("distangle.web")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), usb=()",
}
_UNSAFE_PATH = re.compile(r"[\x00-\x1f\x7f\\;]|\.\.|//|%")


def new_token() -> str:
    """Return a random token of 256 bit for the URL of a viewer."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def allowed_hosts(address: str, port: int) -> frozenset[str]:
    """Return the values of `Host` that are answered.

    Args:
        address: Address that the server listens at.
        port: Its port.
    """
    names = {"127.0.0.1", "localhost", "[::1]"}
    if address not in ("127.0.0.1", "::1", "localhost"):
        names = {f"[{address}]" if ":" in address else address}
    return frozenset(f"{name}:{port}" for name in names)


class Guard:
    """Checks every request before the application sees it.

    In this order: size, host, method, body, path, origin, token. An error of the application becomes an answer
    without details.

    Args:
        app: The application.
        token: The secret of the URL.
        hosts: From `allowed_hosts`.
        port: The port, so that the cookies of two viewers differ.
        pages: Paths of pages, where the token may stand in the URL.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str], port: int, pages: "re.Pattern[str]") -> None:
        self._app, self._token, self._hosts, self._pages = app, token, frozenset(hosts), pages
        self.cookie = f"distangle-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return  # no lifespan, no web sockets
        anyio.to_thread.current_default_thread_limiter().total_tokens = MAX_THREADS
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        try:
            answer = self._check(scope)
        except AnswerError as error:
            answer = error_response(error)
            if error.status in (413, 414, 431):
                answer.headers["Connection"] = "close"
        if answer is not None:
            await answer(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text stays on this machine
            answer = failure_response(error)
            if not has_started:
                await answer(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> Response | None:
        """Return an answer; None for a request that the application answers.

        Raises:
            AnswerError: The request is refused.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if scope.get("http_version") not in ("1.0", "1.1"):
            raise AnswerError(400, "The viewer answers HTTP/1.1.")
        target = len(scope.get("raw_path", b"")) + len(scope["query_string"])
        if target > MAX_TARGET:
            raise AnswerError(414, "The URL is too long.")
        if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            raise AnswerError(431, "The request has too many headers, or too long ones.")
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0].decode("latin-1") not in self._hosts:
            raise AnswerError(403, "Forbidden.", "Open the URL that the viewer printed.")
        if scope["method"] not in ("GET", "HEAD"):
            raise AnswerError(405, "The viewer only reads: GET and HEAD.")
        if any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
        ):
            raise AnswerError(413, "A request has no body here.")
        if _is_unsafe(scope):
            raise AnswerError(404, "Not found.")
        self._check_origin(headers, scope)
        return self._check_token(headers, scope)

    def _check_origin(self, headers: list[tuple[bytes, bytes]], scope: Scope) -> None:
        values = {name: value.decode("latin-1") for name, value in headers}
        is_navigation = values.get(b"sec-fetch-mode") == "navigate" and values.get(b"sec-fetch-dest") == "document"
        is_page = bool(self._pages.fullmatch(scope["path"]))
        origin = values.get(b"origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            raise AnswerError(403, "Forbidden.")
        site = values.get(b"sec-fetch-site")
        if site not in (None, "same-origin", "none") and not (is_navigation and is_page):
            raise AnswerError(403, "Forbidden.")

    def _check_token(self, headers: list[tuple[bytes, bytes]], scope: Scope) -> Response | None:
        query = scope["query_string"].decode("latin-1")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError as error:
            raise AnswerError(400, "The URL has too many parameters.") from error
        tokens = [value for name, value in pairs if name == "token"]
        if tokens and self._pages.fullmatch(scope["path"]):
            if len(tokens) == 1 and self._is_token(tokens[0]):
                answer = RedirectResponse(f"{scope['path']}{_without_token(query)}", status_code=303)
                answer.set_cookie(self.cookie, self._token, httponly=True, samesite="strict", path="/")
                return answer
            raise AnswerError(403, "The token is wrong.", "Open the URL that this viewer printed when it started.")
        cookies = [value.decode("latin-1") for name, value in headers if name == b"cookie"]
        if not any(self._is_token(value) for value in _cookie_values(cookies, self.cookie)):
            raise AnswerError(403, "No access.", "Open the URL that the viewer printed, with its token.")
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("latin-1", "replace"), self._token.encode())


def failure_response(error: Exception) -> Response:
    """Return the answer to an unforeseen error, and log its text escaped."""
    LOG.error("%s %s", type(error).__name__, ascii(str(error))[:500])
    return error_response(AnswerError(500, "This request failed.", "The terminal of the viewer says why."))


def _is_unsafe(scope: Scope) -> bool:
    """Return whether a path has parts that no path of the viewer has."""
    raw = scope.get("raw_path", b"").decode("latin-1")
    return bool(_UNSAFE_PATH.search(raw) or _UNSAFE_PATH.search(scope["path"])) or not scope["path"].startswith("/")


def _cookie_values(headers: list[str], name: str) -> list[str]:
    values = []
    for header in headers:
        try:
            morsel = SimpleCookie(header).get(name)
        except CookieError:
            continue
        if morsel is not None:
            values.append(morsel.value)
    return values


def _without_token(query: str) -> str:
    rest = "&".join(part for part in query.split("&") if part.partition("=")[0] != "token" and part)
    return f"?{rest}" if rest and re.fullmatch(r"[\w.,~!*()'\-=&%+:/@]*", rest) else ""
