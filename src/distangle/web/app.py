"""Answer the requests of the page: routes, parameters and their limits."""

import math
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar, get_args

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from distangle.errors import DistangleError
from distangle.web.answers import AnswerError, JsonBytes, error_response, json_response
from distangle.web.index import ViewIndex, build_index
from distangle.web.pair import RunPair, describe_pair, describe_pair_well, pair_map
from distangle.web.perturbations import describe_perturbation, list_perturbations, mean_map
from distangle.web.pixels import Layer, SitePixels, check_channel, n_levels
from distangle.web.points import Of, PointMap, make_map
from distangle.web.security import Guard, failure_response
from distangle.web.source import ViewSource, notice_of
from distangle.web.summary import summarize
from distangle.web.tables import NAMES, describe_table, read_rows, to_csv, training_metrics
from distangle.web.wells import describe_well

Value = TypeVar("Value")
PAGES = re.compile(r"/|/(plates|map|hits|scores|checks|compare|training)|/(well|perturbation)/[0-9]{1,9}")
MAX_LAYERS = 16
MAX_DIGITS = 9
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "json": "application/json",
    "woff2": "font/woff2",
}
_NUMBER = r"-?[0-9]{1,7}(?:\.[0-9]{1,6})?"
_LAYER = re.compile(rf"([0-9]{{1,3}}),([0-9A-Fa-f]{{6}}),({_NUMBER}),({_NUMBER}),({_NUMBER})")


class Viewer:
    """The content of a source, ready to be sent.

    Args:
        source: An opened source.
        other: Another run, to be compared with it.
    """

    def __init__(self, source: ViewSource, other: ViewSource | None = None) -> None:
        self.source = source
        self.index: ViewIndex = build_index(source)
        self.pair = None if other is None else RunPair(self.index, build_index(other))
        self.pixels = SitePixels(self.index, source.screen) if source.has_images and source.screen else None
        self._once: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def once(self, name: str, make: Callable[[], Value]) -> Value:
        """Return a value that is made on the first request, by one thread."""
        with self._lock:
            own = self._locks.setdefault(name, threading.Lock())
        with own:
            if name not in self._once:
                self._once[name] = make()
            value: Value = self._once[name]
            return value

    def warm(self) -> None:
        """Make what the first page needs."""
        self.once("plates", lambda: JsonBytes.of(self.index.plate_table()))
        self.once("sites", lambda: JsonBytes.of(self.index.site_table()))


def make_app(
    source: ViewSource, *, token: str, hosts: frozenset[str], port: int, other: ViewSource | None = None
) -> tuple[Guard, Viewer]:
    """Return the application behind its guard, and its content.

    Args:
        source: An opened source.
        token: Secret of the URL.
        hosts: Values of `Host` that are answered.
        port: Port of the server.
        other: Another run, to be compared with it.
    """
    viewer = Viewer(source, other)
    assets = read_assets()
    handlers: dict[str, Callable[..., Response]] = {
        "/api/summary": _summary,
        "/api/plates": _plates,
        "/api/points": _points,
        "/api/sites": _sites,
        "/api/wells/{id}": _well,
        "/api/sites/{id}/image": _image,
        "/api/sites/{id}/channels/{channel}": _channel,
        "/api/sites/{id}/composite.png": _composite,
        "/api/sites/{id}/thumbnail.png": _thumbnail,
        "/api/sites/{id}/attribution": _attribution,
        "/api/perturbations": _perturbations,
        "/api/perturbations/{id}": _perturbation,
        "/api/maps/{row}": _mean_map,
        "/api/tables/{name}": _table,
        "/api/training": _training,
        "/api/pair": _pair,
        "/api/pair/wells/{id}": _pair_well,
        "/api/pair/sites/{id}/attribution": _pair_attribution,
    }
    routes = [Route(path, _safe(partial(handler, viewer))) for path, handler in handlers.items()]
    routes.append(Route("/assets/{name:path}", _safe(partial(_asset, assets))))
    routes.append(Route("/{page:path}", _safe(partial(_page, assets))))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    app.router.redirect_slashes = False
    return Guard(app, token=token, hosts=hosts, port=port, pages=PAGES), viewer


def read_assets() -> dict[str, tuple[bytes, str]]:
    """Return content and type of every file of the page, by its name below `assets/`."""

    def walk(folder: Traversable, head: str) -> dict[str, tuple[bytes, str]]:
        table: dict[str, tuple[bytes, str]] = {}
        for entry in folder.iterdir():
            if entry.is_dir():
                table |= walk(entry, f"{head}{entry.name}/")
            elif (kind := entry.name.rpartition(".")[2]) in TYPES:
                table[f"{head}{entry.name}"] = entry.read_bytes(), TYPES[kind]
        return table

    return walk(files("distangle.web").joinpath("assets"), "")


def _safe(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a handler that answers an error instead of raising it."""

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        except AnswerError as error:
            return error_response(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text stays on this machine
            return failure_response(error)

    return answer


def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(AnswerError(status, "Not found." if status == 404 else "The request was refused."))


def _summary(viewer: Viewer, _: Request) -> Response:
    return json_response(summarize(viewer.index, viewer.pair))


def _plates(viewer: Viewer, request: Request) -> Response:
    plates = viewer.once("plates", lambda: JsonBytes.of(viewer.index.plate_table()))
    return plates.response(request.headers.get("accept-encoding", ""))


def _sites(viewer: Viewer, request: Request) -> Response:
    sites = viewer.once("sites", lambda: JsonBytes.of(viewer.index.site_table()))
    return sites.response(request.headers.get("accept-encoding", ""))


def _points(viewer: Viewer, request: Request) -> Response:
    name = request.query_params.get("of", "wells")
    of = next((known for known in get_args(Of) if known == name), None)
    if of is None:
        raise AnswerError(400, "A map is of sites, wells or perturbations.")
    points: PointMap = viewer.once(f"points of {of}", lambda: _read(viewer, lambda: make_map(viewer.index, of)))
    headers = {"X-Count": str(len(points.ids)), "X-Method": points.method, "X-Of": points.of}
    return Response(points.to_bytes(), media_type="application/octet-stream", headers=headers)


def _well(viewer: Viewer, request: Request) -> Response:
    well = _number(request, "id", len(viewer.index.first_site), "well")
    return json_response(_read(viewer, lambda: describe_well(viewer.index, well)))


def _image(viewer: Viewer, request: Request) -> Response:
    site, pixels = _site(viewer, request), _pixels(viewer)
    image, limits = pixels.image(site), pixels.limits(site)
    screen = viewer.source.screen
    names: list[str] = []
    if screen is not None:
        row = screen.sites.iloc[site]
        names = [str(row[f"path_{k}"]).rpartition("/")[2] for k in range(1, len(image) + 1)]
    content = {
        "width": image.shape[2],
        "height": image.shape[1],
        "n_levels": n_levels(image.shape[1:]),
        "bits": image.dtype.itemsize * 8,
        "channels": [
            {"id": k, "low": round(float(low), 3), "high": round(float(high), 3)}
            for k, (low, high) in enumerate(limits)
        ],
        "pixel_size_um": screen.metadata.pixel_size_um if screen is not None else None,
        "names": list(dict.fromkeys(names)),
    }
    return json_response(content)


def _channel(viewer: Viewer, request: Request) -> Response:
    site, pixels = _site(viewer, request), _pixels(viewer)
    image = pixels.level(site, _level(request))
    channel = _integer(request.path_params["channel"], "channel")
    check_channel(channel, len(image))
    plane = np.ascontiguousarray(image[channel])
    return _raw(plane.astype(plane.dtype.newbyteorder("<"), copy=False), {"X-Bits": str(plane.dtype.itemsize * 8)})


def _composite(viewer: Viewer, request: Request) -> Response:
    site, pixels = _site(viewer, request), _pixels(viewer)
    layers = [_layer(text) for text in request.query_params.getlist("c")]
    if len(layers) > MAX_LAYERS:
        raise AnswerError(400, f"{len(layers)} channels: expected at most {MAX_LAYERS}.")
    return Response(pixels.composite(site, _level(request), layers), media_type="image/png")


def _thumbnail(viewer: Viewer, request: Request) -> Response:
    return Response(_pixels(viewer).thumbnail(_site(viewer, request)), media_type="image/png")


def _attribution(viewer: Viewer, request: Request) -> Response:
    site = _site(viewer, request)
    explanation, row = viewer.source.explanation, viewer.index.explained_sites.get(site)
    if request.query_params.get("channel", "all") != "all":
        raise AnswerError(404, "There is one map for all channels.", "Ask for `channel=all`.")
    if explanation is None or row is None:
        raise AnswerError(404, "This site is not explained.", "`distangle explain RUN` explains more sites.")
    values = _read(viewer, lambda: explanation.read_map(row))
    return _raw(values.astype("<f4", copy=False), {})


def _perturbations(viewer: Viewer, request: Request) -> Response:
    table = viewer.once("perturbations", lambda: JsonBytes.of(list_perturbations(viewer.index)))
    return table.response(request.headers.get("accept-encoding", ""))


def _perturbation(viewer: Viewer, request: Request) -> Response:
    number = _number(request, "id", len(viewer.index.perturbations), "perturbation")
    return json_response(_read(viewer, lambda: describe_perturbation(viewer.index, number)))


def _mean_map(viewer: Viewer, request: Request) -> Response:
    row = _integer(request.path_params["row"], "mean map")
    return _raw(_read(viewer, lambda: mean_map(viewer.index, row)).astype("<f4", copy=False), {})


def _table(viewer: Viewer, request: Request) -> Response:
    name, _, ending = request.path_params["name"].partition(".")
    if ending not in ("", "csv"):
        raise AnswerError(404, "Not found.")
    for known in NAMES:
        if name == known:
            if not ending:
                return json_response(describe_table(viewer.index, known))
            headers = {"Content-Disposition": f'attachment; filename="{known}.csv"'}
            return Response(to_csv(read_rows(viewer.index, known)[0]), media_type="text/csv", headers=headers)
    raise AnswerError(404, "Not found.")


def _training(viewer: Viewer, _: Request) -> Response:
    return json_response(training_metrics(viewer.source))


def _pair(viewer: Viewer, request: Request) -> Response:
    pair = _other(viewer)
    answer = viewer.once("pair", lambda: JsonBytes.of(_read(viewer, lambda: describe_pair(pair))))
    return answer.response(request.headers.get("accept-encoding", ""))


def _pair_well(viewer: Viewer, request: Request) -> Response:
    pair = _other(viewer)
    well = _number(request, "id", len(viewer.index.first_site), "well")
    return json_response(_read(viewer, lambda: describe_pair_well(pair, well)))


def _pair_attribution(viewer: Viewer, request: Request) -> Response:
    pair, site = _other(viewer), _site(viewer, request)
    return _raw(_read(viewer, lambda: pair_map(pair, site)).astype("<f4", copy=False), {})


def _other(viewer: Viewer) -> RunPair:
    if viewer.pair is None:
        raise AnswerError(404, "One run is open.", "Start the viewer with two: `distangle view RUN OTHER_RUN`.")
    return viewer.pair


def _asset(assets: Mapping[str, tuple[bytes, str]], request: Request) -> Response:
    if request.path_params["name"] not in assets:
        raise AnswerError(404, "Not found.")
    content, kind = assets[request.path_params["name"]]
    return Response(content, headers={"Content-Type": kind})


def _page(assets: Mapping[str, tuple[bytes, str]], request: Request) -> Response:
    if not PAGES.fullmatch(request.url.path):
        raise AnswerError(404, "Not found.")
    content, kind = assets["index.html"]
    return Response(content, headers={"Content-Type": kind})


def _read(viewer: Viewer, read: Callable[[], Value]) -> Value:
    """Read a file on request; one that is damaged is an error of the answer."""
    try:
        return read()
    except DistangleError as error:
        notice = notice_of(error)
        texts = [notice.text, notice.next_step]
        for source in [viewer.source] + ([viewer.pair.second.source] if viewer.pair else []):
            texts = [source.without_folders(text) for text in texts]
        raise AnswerError(410, *texts) from error


def _pixels(viewer: Viewer) -> SitePixels:
    if viewer.pixels is None:
        raise AnswerError(404, "There are no images here.", "View the run or the screen that they belong to.")
    return viewer.pixels


def _site(viewer: Viewer, request: Request) -> int:
    return _number(request, "id", len(viewer.source.sites), "site")


def _number(request: Request, name: str, n: int, kind: str) -> int:
    number = _integer(request.path_params[name], kind)
    if number >= n:
        raise AnswerError(404, f"There is no such {kind}.")
    return number


def _integer(text: str, kind: str) -> int:
    if not re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text):
        raise AnswerError(404, f"There is no such {kind}.")
    return int(text)


def _level(request: Request) -> int:
    text = request.query_params.get("level", "0")
    if not re.fullmatch("[0-9]{1,2}", text):
        raise AnswerError(400, "A level is a number from 0.")
    return int(text)


def _layer(text: str) -> Layer:
    match = _LAYER.fullmatch(text)
    if match is None:
        raise AnswerError(400, "A channel is `c=NUMBER,RRGGBB,LOW,HIGH,GAMMA`.")
    channel, color, *numbers = match.groups()
    low, high, gamma = map(float, numbers)
    if not (0.05 <= gamma <= 20 and math.isfinite(low) and math.isfinite(high)):
        raise AnswerError(400, "Gamma is a number from 0.05 to 20.")
    rgb = (int(color[0:2], 16), int(color[2:4], 16), int(color[4:6], 16))
    return Layer(int(channel), rgb, low, high, gamma)


def _raw(values: np.ndarray, headers: Mapping[str, str]) -> Response:
    height, width = values.shape
    return Response(
        values.tobytes(),
        media_type="application/octet-stream",
        headers={"X-Width": str(width), "X-Height": str(height), **headers},
    )
