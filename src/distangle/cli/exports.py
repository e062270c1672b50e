"""Run the verb that writes files for other programs: export."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distangle.cli.console import print_note, print_result, print_status
from distangle.core.progress import show_action
from distangle.errors import ConfigError

if TYPE_CHECKING:
    from distangle.export import ProfileSource


def export(
    source: Path,
    *,
    format: Literal["h5ad", "pycytominer", "ome-zarr", "torch", "onnx"],
    out: Path,
    size: int | None = None,
    screen: Path | None = None,
    images: Path | None = None,
) -> None:
    """Write embeddings, profiles, explained sites or the network for other programs.

    A run gives the embeddings of its sites, and the profiles of its wells if it has any.

    Args:
        source: Folder of a run or of profiles; a run for `ome-zarr`, `torch` and `onnx`.
        format: Type of the files: `h5ad` (AnnData, for scanpy), `pycytominer` (one Parquet table per plate and one of
            all plates), `ome-zarr` (images and activation maps of the explained sites, for napari and vizarr), or the
            network as `torch` (torch.export) or `onnx`.
        out: New folder or URL for the files.
        size: Height and width of the input of the network after binning, in pixels; the default is the size of the
            images of the screen.
        screen: Screen of the run, if it was moved; for `ome-zarr`.
        images: Folder of the images, if they were moved after `distangle index`; for `ome-zarr`.
    """
    from distangle.export.folders import check_new, check_source

    check_source(source, needs="network" if format in ("torch", "onnx") else "images" if format == "ome-zarr" else "")
    check_new(out)
    for name, folder in (("screen", screen), ("images", images)):
        if folder is not None and format != "ome-zarr":
            raise ConfigError(f"--{name} {folder} says where images are, and {format} has no images. Leave it out.")
    if format == "torch" or format == "onnx":
        _export_network(source, out, format=format, size=size)
        return
    if size is not None:
        raise ConfigError(f"--size {size} is the size of the input of a network, and {format} has no network.")
    if format == "ome-zarr":
        _export_sites(source, out, screen=screen, images=images)
        return
    _export_profiles(source, out, format=format)


def _export_profiles(source: Path, out: Path, *, format: Literal["h5ad", "pycytominer"]) -> None:
    show_action("reading the profiles")
    from distangle.export import read_source, write_h5ad, write_plates
    from distangle.export.folders import new_folder

    sources = read_source(source)
    with new_folder(out) as folder:
        for profile_set in sources:
            show_action("writing", profile_set.name)
            if format == "h5ad":
                write_h5ad(
                    profile_set.profiles, folder / f"{profile_set.name}.h5ad", coordinates=profile_set.coordinates
                )
            elif profile_set.profiles.level != "perturbation":
                write_plates(profile_set.profiles, folder / profile_set.name)
    for profile_set in sources:
        if format == "h5ad":
            print_status(f"{profile_set.name}.h5ad: {_size(profile_set)}")
        elif profile_set.profiles.level != "perturbation":
            print_status(
                f"{profile_set.name}: {_size(profile_set)}, one table per plate in plates/ and all in assembled.parquet"
            )
        else:
            print_note("The profiles of perturbations have no plate and are not written; use `--format h5ad`.")
    print_result(str(out))


def _export_sites(source: Path, out: Path, *, screen: Path | None, images: Path | None) -> None:
    from distangle.cli.inputs import open_own_screen
    from distangle.export.folders import new_folder
    from distangle.results import RunFolder, refuse_altered

    run = RunFolder.open(source)
    own_screen = open_own_screen(run, screen, images)
    show_action("reading the explanation")
    from distangle.export import write_explained_sites

    refuse_altered(run, "explanations/")
    with new_folder(out) as folder:
        result = write_explained_sites(run, own_screen, folder, step=lambda name: show_action("writing", name))
    for sentence in result.refused:
        print_note(f"Not written: {sentence}")
    n_plates = len(result.plates)
    print_status(
        f"{result.n_sites} {'site' if result.n_sites == 1 else 'sites'} on {n_plates} "
        f"{'plate' if n_plates == 1 else 'plates'}; sites.csv lists them. Open a plate: "
        f"`napari --plugin napari-ome-zarr {out / result.plates[0]}`."
    )
    print_result(str(out))


def _size(source: "ProfileSource") -> str:
    n_rows, n_features = source.profiles.features.shape
    return f"{n_rows} {source.profiles.level}s with {n_features} features"


def _export_network(source: Path, out: Path, *, format: Literal["torch", "onnx"], size: int | None) -> None:
    show_action("loading the network code")
    from distangle.export import export_network
    from distangle.export.folders import new_folder
    from distangle.export.network import SUFFIXES
    from distangle.results import RunFolder

    run = RunFolder.open(source)
    show_action("exporting the network")
    with new_folder(out) as folder:
        network = export_network(run, folder / f"model{SUFFIXES[format]}", format=format, size=size)
    print_status(
        f"{network.path.name} differs from the network of the run by at most {network.logit_difference:.1g} in the "
        f"logits and {network.embedding_difference:.1g} in the embedding. {network.card.name} says how to use it."
    )
    print_result(str(out))
