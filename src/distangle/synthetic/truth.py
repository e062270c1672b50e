"""Define the ground truth of a synthetic screen, stored as `truth.json`.

Schema (UTF-8 JSON, one object):

- `schema_version`: 1.
- `config`: the `SimulationConfig` that made the screen; equal values give equal bytes.
- `perturbations`: name -> `role` (`treatment`, `positive_control`, `negative_control`), `kind` (kinds of effect
  joined by `+`, or `none`), `channels` (those it changes, counted from 1, empty for none), `local` (whether its
  effect is local), `strength` (factor on the effect), `description` (text).
- `plates`: one object per plate: `experiment`, `plate`, `cell_type`, `split` (`train` or `test`), `perturbations`
  (names on it) and `batch` (`gain` and `offset` per channel, `blur_um`, `vignette`, `centre`, `density`, optics; see
  `acquisition.BatchEffect`).
- `sites`: one object per site: `experiment`, `plate`, `well` (`B02`), `site` (from 1), `perturbation`, `n_cells`
  (nuclei with their center in the image) and `place`: `row`, `column`, `radius` of a circle in pixels, outside of
  which the image is that of a control, or null.

Labels of test experiments are in no other file.
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
    """A circle in an image: center and radius in pixels."""

    row: float
    column: float
    radius: float


class PlantedPerturbation(_FrozenModel):
    """The effect of a perturbation; `channels` count from 1, empty for no effect."""

    role: Literal["treatment", "positive_control", "negative_control"]
    kind: str
    channels: list[int]
    local: bool
    strength: float
    description: str


class PlantedPlate(_FrozenModel):
    """The perturbations on a plate, and its batch effects."""

    experiment: str
    plate: int
    cell_type: str
    split: Literal["train", "test"]
    perturbations: list[str]
    batch: BatchEffect


class PlantedSite(_FrozenModel):
    """The perturbation of a site, and the region of its effect."""

    experiment: str
    plate: int
    well: str
    site: int
    perturbation: str
    n_cells: int
    place: Place | None


class Truth(_FrozenModel):
    """The ground truth of a synthetic screen."""

    schema_version: Literal[1] = 1
    config: SimulationConfig
    perturbations: dict[str, PlantedPerturbation]
    plates: list[PlantedPlate]
    sites: list[PlantedSite]

    @cached_property
    def _site_of(self) -> dict[tuple[str, str, str, int], PlantedSite]:
        return {(site.experiment, str(site.plate), site.well, site.site): site for site in self.sites}

    def find(self, experiment: str, plate: int | str, well: str, site: int) -> PlantedSite | None:
        """Return the ground truth of one site; None if there is no such site."""
        return self._site_of.get((experiment, str(plate), well, site))

    def site(self, experiment: str, plate: int | str, well: str, site: int) -> PlantedSite:
        """Return the ground truth of one site.

        Raises:
            ScreenError: There is no such site.
        """
        match = self.find(experiment, plate, well, site)
        if match is None:
            names = sorted({f"{other.experiment} plate {other.plate}" for other in self.sites})
            raise ScreenError(
                f"The truth has no site {site} in well {well} of {experiment} plate {plate}. "
                f"{did_you_mean(f'{experiment} plate {plate}', names)}"
            )
        return match

    def place(self, experiment: str, plate: int | str, well: str, site: int) -> Place | None:
        """Return the region of the effect in a site; None if it is everywhere or nowhere.

        Raises:
            ScreenError: There is no such site.
        """
        return self.site(experiment, plate, well, site).place


def truth_of(screen: Screen, *, say: Callable[[str], None]) -> Truth | None:
    """Return the ground truth of a screen; None for a screen of real cells.

    A laboratory may have its own `truth.json` next to its images: the file is used only if it has every site of the
    screen, and no label of the screen contradicts it.

    Args:
        screen: Its source folder is searched; a source behind a URL has no ground truth.
        say: Called with one sentence about a file that is ignored.
    """
    source = screen.source
    if not isinstance(source, Path) or not (source / "truth.json").is_file():
        return None
    file = source / "truth.json"
    if screen.confined and links_leading_out(source, ["truth.json"]):
        say(f"{file} is a link that leads out of the source folder: it is ignored.")
        return None
    try:
        truth = read_truth(file)
    except ScreenError:
        say(f"{file} was not written by `distangle simulate`: it is ignored, and the screen is treated as a real one.")
        return None
    sites = screen.sites[["experiment", "plate", "well", "site", "perturbation"]]
    for experiment, plate, well, site, label in sites.itertuples(index=False, name=None):
        planted = truth.find(str(experiment), str(plate), str(well), int(site))
        if planted is None or (label and str(label) != planted.perturbation):
            name = f"{experiment} plate {plate} well {well} site {site}"
            reason = f"lacks {name}" if planted is None else f"has {planted.perturbation!r} for {name}, not {label!r}"
            say(f"{file} belongs to another screen: it {reason}. It is ignored.")
            return None
    return truth


def read_truth(path: Path) -> Truth:
    """Read `truth.json`, or the one in the folder of a synthetic screen.

    Raises:
        ScreenError: There is none, or this version cannot read it.
    """
    file = path / "truth.json" if path.is_dir() else path
    if not file.exists():
        raise ScreenError(
            f"{file} does not exist. `distangle simulate OUT` writes it as its last file; real screens have none."
        )
    fix = "This version cannot read it. Simulate the screen again: `distangle simulate OUT`."
    values = read_json(file, fix=fix, error=ScreenError)
    with read_regular_file(file, fix=fix, error=ScreenError):
        return Truth.model_validate(values)
