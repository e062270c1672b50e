"""Define a synthetic screen by one frozen value that decides every byte."""

from pydantic import BaseModel, ConfigDict, Field


class SimulationConfig(BaseModel):
    """Everything that decides a synthetic screen; equal values give equal bytes.

    `effect_strength`, `batch_strength`, `optics_strength` and `position_strength` are factors: 0 is none, 1 is clearly
    visible.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Decides everything random.")
    image_size: int = Field(128, ge=32, le=2048, description="Height and width of an image, pixels.")
    magnification: float = Field(
        1.0, gt=0.2, le=5.0, description="Factor on the size of cells in pixels; see `pixels_per_um`."
    )
    cell_types: tuple[str, ...] = Field(("HUVEC", "RPE"), min_length=1, description="HUVEC, RPE, HEPG2, U2OS.")
    experiments_per_cell_type: int = Field(2, ge=1, le=99, description="Experiments with each cell type.")
    n_test_experiments: int = Field(
        0, ge=0, description="How many of all experiments go to test/, without treatment labels."
    )
    plates_per_experiment: int = Field(2, ge=1, le=4, description="Plates of an experiment.")
    plate_groups: bool = Field(
        default=True, description="Treatments in as many disjoint groups as plates, one a plate; else all on all."
    )
    n_treatments: int = Field(12, ge=1, description="Perturbations beside the controls.")
    wells_per_treatment: int = Field(1, ge=1, description="On each plate that carries the treatment.")
    n_positive_controls: int = Field(4, ge=0, description="One well each on every plate.")
    n_negative_controls: int = Field(4, ge=1, description="Untreated wells on every plate; one is always B02.")
    sites_per_well: int = Field(2, ge=1, le=9, description="Images of a well.")
    effect_strength: float = Field(1.0, ge=0.0, le=2.0, description="How much a treatment changes its cells.")
    local_share: float = Field(
        0.25, ge=0.0, le=1.0, description="Share of the treatments whose effect has a place in the image."
    )
    batch_strength: float = Field(1.0, ge=0.0, le=3.0, description="How much experiments and plates differ.")
    optics_strength: float = Field(
        0.0,
        ge=0.0,
        le=3.0,
        description="What standardising an image does not remove: camera response, wings, defocus, background texture.",
    )
    position_strength: float = Field(0.5, ge=0.0, le=2.0, description="How much the place of a well changes its cells.")
    null: bool = Field(default=False, description="Plant nothing: labels stay, every well is like untreated.")

    @property
    def pixels_per_um(self) -> float:
        """Pixels per micrometre.

        A larger image shows both more field and more detail: 1 px/um at 128 pixels, 1.5 px/um at 512 (where a
        HUVEC nucleus is then as large as in RxRx1), times `magnification`.
        """
        return float(self.magnification * (self.image_size / 128) ** 0.3)
