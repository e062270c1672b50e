"""What was planted, as a file beside the images: `truth.json`.

Schema (UTF-8 JSON, one object):

- `schema_version`: 1.
- `config`: the `SimulationConfig` that made the screen; the same one makes the same bytes again.
- `perturbations`: name -> `role` (`treatment`, `positive_control`, `negative_control`), `kind` (kinds of effect
  joined by `+`, or `none`), `channels` (those it changes, counted from 1, empty for none), `local` (whether its
  effect has a place in the image), `strength` (factor on the effect), `description` (words).
- `plates`: one object per plate: `experiment`, `plate`, `cell_type`, `split` (`train` or `test`), `perturbations`
  (names on it) and `batch` (`gain` and `offset` per channel, `blur_um`, `vignette`, `centre`, `density`, optics; see
  `acquisition.Batch`).
- `sites`: one object per site: `experiment`, `plate`, `well` (`B02`), `site` (from 1), `perturbation`, `n_cells`
  (nuclei with their centre in the image) and `place`: `row`, `column`, `radius` of a circle in pixels, outside of
  which the image is as if untreated, or null.

The labels of test experiments stand here and nowhere else.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from distangle.core.untrusted_files import read_json, read_regular_file
from distangle.errors import ScreenError, did_you_mean
from distangle.screen import Screen
from distangle.screen.origin import links_leading_out
from distangle.synthetic.acquisition import BatchEffect
from distangle.synthetic.design import SimulationConfig


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_FrozenModel):
    """A circle in an image: centre and radius in pixels."""

    row: float
    column: float
    radius: float


class PlantedPerturbation(_FrozenModel):
    """What a perturbation does; `channels` count from 1, and are empty for nothing."""

    role: Literal["treatment", "positive_control", "negative_control"]
    kind: str
    channels: list[int]
    local: bool
    strength: float
    description: str


class PlantedPlate(_FrozenModel):
    """What is on a plate, and its batch effects."""

    experiment: str
    plate: int
    cell_type: str
    split: Literal["train", "test"]
    perturbations: list[str]
    batch: BatchEffect


class PlantedSite(_FrozenModel):
    """What is on a site and where."""

    experiment: str
    plate: int
    well: str
    site: int
    perturbation: str
    n_cells: int
    place: Place | None


class Truth(_FrozenModel):
    """All that was planted in a synthetic screen."""

    schema_version: Literal[1] = 1
    config: SimulationConfig
    perturbations: dict[str, PlantedPerturbation]
    plates: list[PlantedPlate]
    sites: list[PlantedSite]

    @cached_property
    def _site_of(self) -> dict[tuple[str, str, str, int], PlantedSite]:
        return {(site.experiment, str(site.plate), site.well, site.site): site for site in self.sites}

    def known(self, experiment: str, plate: int | str, well: str, site: int) -> PlantedSite | None:
        """Return what is known of one site; None where there is no such site."""
        return self._site_of.get((experiment, str(plate), well, site))

    def site(self, experiment: str, plate: int | str, well: str, site: int) -> PlantedSite:
        """Return what is known of one site.

        Raises:
            ScreenError: There is no such site.
        """
        known = self.known(experiment, plate, well, site)
        if known is None:
            names = sorted({f"{other.experiment} plate {other.plate}" for other in self.sites})
            raise ScreenError(
                f"The truth has no site {site} in well {well} of {experiment} plate {plate}. "
                f"{did_you_mean(f'{experiment} plate {plate}', names)}"
            )
        return known

    def place(self, experiment: str, plate: int | str, well: str, site: int) -> Place | None:
        """Return where the effect is in a site, or None when it is everywhere or nowhere.

        Raises:
            ScreenError: There is no such site.
        """
        return self.site(experiment, plate, well, site).place


def truth_of(screen: Screen, *, say: Callable[[str], None]) -> Truth | None:
    """Return what was planted in a screen; None of a screen of real cells.

    A laboratory may have a `truth.json` of its own beside its images: it counts only where it knows every site of the
    screen, and no label of the screen contradicts it.

    Args:
        screen: Its source folder is looked into; what lies behind a URL has no truth.
        say: Told, in one sentence, of a file that was left aside.
    """
    source = screen.source
    if not isinstance(source, Path) or not (source / "truth.json").is_file():
        return None
    file = source / "truth.json"
    if screen.confined and links_leading_out(source, ["truth.json"]):
        say(f"{file} is a link that leads out of the source: it is left aside.")
        return None
    try:
        truth = read_truth(file)
    except ScreenError:
        say(
            f"{file} is not what `distangle simulate` writes: it is left aside, and the screen is taken for a real one."
        )
        return None
    sites = screen.sites[["experiment", "plate", "well", "site", "perturbation"]]
    for experiment, plate, well, site, label in sites.itertuples(index=False, name=None):
        known = truth.known(str(experiment), str(plate), str(well), int(site))
        if known is None or (label and str(label) != known.perturbation):
            place = f"{experiment} plate {plate} well {well} site {site}"
            why = (
                f"does not know {place}" if known is None else f"says {known.perturbation!r} of {place}, not {label!r}"
            )
            say(f"{file} is of another screen: it {why}. It is left aside.")
            return None
    return truth


def read_truth(path: Path) -> Truth:
    """Read `truth.json`, or the one in the folder of a synthetic screen.

    Raises:
        ScreenError: There is none, or it is not what this version writes.
    """
    file = path / "truth.json" if path.is_dir() else path
    if not file.exists():
        raise ScreenError(
            f"No truth in {file}. `distangle simulate OUT` writes one as its last file; real screens have none."
        )
    fix = "It is not a truth that this version understands. Simulate the screen again: `distangle simulate OUT`."
    said = read_json(file, fix=fix, error=ScreenError)
    with read_regular_file(file, fix=fix, error=ScreenError):
        return Truth.model_validate(said)
