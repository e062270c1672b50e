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

import json
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from distangle.errors import ScreenError, nearest
from distangle.synthetic.acquisition import Batch
from distangle.synthetic.config import SimulationConfig


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Stated):
    """A circle in an image: centre and radius in pixels."""

    row: float
    column: float
    radius: float


class PlantedPerturbation(_Stated):
    """What a perturbation does; `channels` count from 1 and are empty when it does nothing."""

    role: Literal["treatment", "positive_control", "negative_control"]
    kind: str
    channels: list[int]
    local: bool
    strength: float
    description: str


class PlantedPlate(_Stated):
    """What is on a plate, and its batch effects."""

    experiment: str
    plate: int
    cell_type: str
    split: Literal["train", "test"]
    perturbations: list[str]
    batch: Batch


class PlantedSite(_Stated):
    """What is on a site and where."""

    experiment: str
    plate: int
    well: str
    site: int
    perturbation: str
    n_cells: int
    place: Place | None


class Truth(_Stated):
    """All that was planted in a synthetic screen."""

    schema_version: Literal[1] = 1
    config: SimulationConfig
    perturbations: dict[str, PlantedPerturbation]
    plates: list[PlantedPlate]
    sites: list[PlantedSite]

    @cached_property
    def _site_of(self) -> dict[tuple[str, int, str, int], PlantedSite]:
        return {(site.experiment, site.plate, site.well, site.site): site for site in self.sites}

    def site(self, experiment: str, plate: int | str, well: str, site: int) -> PlantedSite:
        """Return what is known of one site.

        Raises:
            ScreenError: There is no such site.
        """
        known = self._site_of.get((experiment, int(plate), well, site))
        if known is None:
            names = sorted({f"{other.experiment} plate {other.plate}" for other in self.sites})
            message = (
                f"The truth has no site {site} in well {well} of {experiment} plate {plate}. "
                f"{nearest(f'{experiment} plate {plate}', names)}"
            )
            raise ScreenError(message)
        return known

    def place(self, experiment: str, plate: int | str, well: str, site: int) -> Place | None:
        """Return where the effect is in a site, or None when it is everywhere or nowhere.

        Raises:
            ScreenError: There is no such site.
        """
        return self.site(experiment, plate, well, site).place


def read_truth(path: Path) -> Truth:
    """Read `truth.json`, or the one in the folder of a synthetic screen.

    Raises:
        ScreenError: There is none, or it is not what this version writes.
    """
    file = path / "truth.json" if path.is_dir() else path
    if not file.exists():
        message = f"No truth in {file}. `distangle simulate OUT` writes one as its last file; real screens have none."
        raise ScreenError(message)
    try:
        return Truth.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (ValidationError, json.JSONDecodeError) as wrong:
        message = f"{file} is not a truth that this version understands: {wrong}. Simulate the screen again."
        raise ScreenError(message) from wrong
