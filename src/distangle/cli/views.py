"""Run the verbs that show images: view in a browser, napari in its window."""

import contextlib
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from distangle.cli.console import print_note, print_result
from distangle.core.progress import show_action
from distangle.errors import ConfigError

if TYPE_CHECKING:
    from distangle.export.napari_layers import WellLayers

PACKAGES = ("starlette", "uvicorn")
NAPARI_PACKAGE = "napari"
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")  # variables, on Linux
PIXELS_WITHOUT_NUMBA = 1 << 60  # its kernels take 130 MB, and a viewer reads few images


def view(
    folder: Path | None = None,
    other: Path | None = None,
    *,
    port: int = 0,
    listen: str = "127.0.0.1",
    browser: bool = True,
    demo: Annotated[bool, Parameter(negative=())] = False,
    screen: Path | None = None,
    images: Path | None = None,
) -> None:
    """Look at a run, a screen or profiles in a browser.

    The page shows plates, wells, images, attribution maps, hits and scores. The server runs on this machine until
    Ctrl-C, reads only, and answers only who has the printed URL.

    Args:
        folder: A run, a screen, or profiles from `distangle profile`.
        other: Another run of the same screen, to compare with the first.
        port: Port of the server; 0 takes any free one.
        listen: Address of this machine at which the server listens; others can reach any but 127.0.0.1.
        browser: Open the page in a browser.
        demo: View a small simulated screen instead of a folder.
        screen: Screen of the run, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
    """
    _check_packages()
    if demo == (folder is not None):
        raise ConfigError(
            "Name what to view, either a folder or a demonstration: `distangle view FOLDER` or `distangle view --demo`."
        )
    if demo:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="distangle-view-") as temporary:
            _view(_simulate(Path(temporary)), port=port, listen=listen, browser=browser)
        return
    _view(folder or Path(), other, port=port, listen=listen, browser=browser, screen=screen, images=images)


def napari(
    run: Path,
    well: str,
    *,
    site: int | None = None,
    screen: Path | None = None,
    images: Path | None = None,
) -> None:
    """Open a well in napari: its channels, and the activation map as a layer.

    Channels have their names, colors and the contrast of the plate; the scale is in micrometers if the pixel size is
    known. A slider goes through the sites of the well. The prediction is in the metadata of the layers.

    Args:
        run: Folder of the run.
        well: Name of the well: `WELL`, `PLATE/WELL` or `EXPERIMENT/PLATE/WELL`, such as `HUVEC-01/1/B02`.
        site: Number of one site; without it, all sites.
        screen: Screen of the run, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
    """
    _check_napari()
    from distangle.cli.inputs import open_own_screen
    from distangle.results import RunFolder, refuse_altered

    run_folder = RunFolder.open(run)
    own_screen = open_own_screen(run_folder, screen, images)
    show_action("reading", well)
    from distangle.export.napari_layers import well_layers

    refuse_altered(run_folder, "explanations/")
    layers = well_layers(run_folder, own_screen, well, site=site)
    for note in layers.notes:
        print_note(note)
    show_action("loading napari")
    package = importlib.import_module(NAPARI_PACKAGE)
    print_result(f"{layers.title}: {len(layers.layers)} layers. Close the window of napari to end.")
    viewer = package.Viewer(title=f"{layers.title} - {run_folder.root.resolve().name}")
    fill_viewer(viewer, layers, create=package.layers.Layer.create)
    show_action("")
    package.run()


def fill_viewer(viewer: Any, layers: "WellLayers", *, create: Any) -> None:
    """Add the layers of a well to a viewer of napari.

    Args:
        viewer: A `napari.Viewer` or its model.
        layers: The well.
        create: `napari.layers.Layer.create`.
    """
    for data in layers.layers:
        viewer.add_layer(create(*data))
    if len(layers.sites) > 1:
        viewer.dims.axis_labels = ("site", "y", "x")
        viewer.dims.set_point(0, 0)
    # napari 0.9 moved the scale bar.
    overlays = getattr(getattr(viewer, "canvas", None), "overlays", viewer)
    overlays.scale_bar.visible = layers.in_um
    if layers.in_um:
        for layer in viewer.layers:
            layer.units = tuple("pixel" if axis == 0 and layer.ndim == 3 else "um" for axis in range(layer.ndim))
    viewer.reset_view()


def _check_napari() -> None:
    """Check that napari is installed and has a display.

    Raises:
        ConfigError: One is absent.
    """
    if importlib.util.find_spec(NAPARI_PACKAGE) is None:
        raise ConfigError(
            "`distangle napari` needs napari, which is not installed. Install the extra `napari`: `pip install "
            "'distangle[napari]'`, or look at the well in a browser: `distangle view RUN`."
        )
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in DISPLAYS):
        raise ConfigError(
            "`distangle napari` opens a window, and this machine has no display (DISPLAY is not set). Use `distangle "
            "view RUN`, or export the sites and open them at home: `distangle export RUN --format ome-zarr --out DIR`."
        )


def _view(
    folder: Path,
    other: Path | None = None,
    *,
    port: int,
    listen: str,
    browser: bool,
    screen: Path | None = None,
    images: Path | None = None,
) -> None:
    from distangle.core.allocator import return_freed_memory
    from distangle.web.serve import bind

    return_freed_memory()
    bound, address = bind(listen, port)  # before slow work: the port may be in use
    with bound, _without_collection():
        show_action("loading the server")
        from distangle.images.jit_threshold import JIT_THRESHOLD
        from distangle.web.app import make_app
        from distangle.web.security import allowed_hosts, new_token
        from distangle.web.serve import can_open_browser, make_server, open_browser, serve
        from distangle.web.source import open_source

        show_action(f"reading {folder}")
        source = open_source(folder, screen=screen, images=images)
        second = None
        if other is not None:
            from distangle.web.pair import check_pair

            show_action(f"reading {other}")
            second = open_source(other, screen=screen, images=images)
            check_pair(source, second)
        token, hosts = new_token(), allowed_hosts(address.host, address.port)
        app, viewer = make_app(source, token=token, hosts=hosts, port=address.port, other=second)
        for notice in [*source.notices, *(second.notices if second else [])]:
            print_note(f"{notice.text} {notice.next_step}".strip())
        if not address.is_local:
            print_result(
                f"Others on the network can reach {address.host}, and the connection is not encrypted. Who sees the "
                "URL below can see the screen."
            )
        url = f"{address.url}?token={token}"

        def announce() -> None:
            names = [str(run.resolve().name) for run in (folder, other) if run is not None]
            print_result(f"{' and '.join(names)}: {len(source.sites):,} sites. Open this page; Ctrl-C ends it:")
            print_result(url)
            sys.stdout.flush()  # whoever reads a pipe waits for the URL
            show_action("")
            gc.enable()  # the slow part has ended
            threading.Thread(target=viewer.warm, daemon=True).start()
            if browser and can_open_browser():
                open_browser(url)

        JIT_THRESHOLD.count(-PIXELS_WITHOUT_NUMBA)
        serve(make_server(app), bound, when_ready=announce)
        print_result("The viewer has ended.")


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage until the end, or until a viewer is ready.

    Imports leave no garbage, and each search for it visits all modules.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _check_packages() -> None:
    """Check that the packages of the server are installed.

    Raises:
        ConfigError: One is absent.
    """
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(
            f"`distangle view` needs {' and '.join(absent)}. Install the extra `view`: `pip install 'distangle[view]'`."
        )


def _simulate(folder: Path) -> Path:
    """Make a small screen with planted effects; return its folder."""
    from distangle.core.progress import by_percent, progress
    from distangle.images import probe_image
    from distangle.screen import index, write_screen
    from distangle.synthetic import SimulationConfig, simulate

    config = SimulationConfig(cell_types=("HUVEC",), n_treatments=6, wells_per_treatment=2, sites_per_well=1)
    with progress("simulate", 100, unit="%") as advance:
        simulate(folder / "plates", config, workers=2, progress=by_percent(advance))
    write_screen(index(folder / "plates", layout="rxrx1", probe=probe_image), folder / "screen")
    return folder / "screen"
