"""Overlap of an explanation's maps with nuclei and cells."""

import dataclasses
from collections.abc import Sequence

from distangle.errors import ExplanationError
from distangle.explain.chosen import ChosenSites
from distangle.explain.places.cells import nuclear_channel
from distangle.explain.places.overlap import overlap_with_cells
from distangle.explain.summary import wells_of
from distangle.randomness import generator
from distangle.results import Explanation
from distangle.screen import Channel


def on_cells(
    explanation: Explanation, sites: ChosenSites, channels: Sequence[Channel], *, nuclear: str | None
) -> Explanation:
    """Return an explanation with the map shares of nuclei, cells, background.

    Args:
        explanation: Of the sites.
        sites: What was explained.
        channels: Of the screen.
        nuclear: Name of the channel that shows nuclei; None to know it by its name, stain or organelle. Where none
            is known, nothing is added, and `summary["cells"]` is the reason.
    """
    try:
        channel = nuclear_channel(channels, named=nuclear)
    except ExplanationError as error:
        if nuclear is not None:
            raise
        return dataclasses.replace(explanation, summary={**explanation.summary, "cells": str(error)})
    grid = explanation.settings["map_grid"]
    found = overlap_with_cells(
        explanation.maps,
        sites.raw,
        nuclear=channel,
        grid=(int(grid[0]), int(grid[1])),
        rng=generator(0, "cells"),
        experiments=sites.table["Metadata_Experiment"].astype(str).tolist(),
        wells=wells_of(sites.table),
    )
    columns = {str(name): found.table[name].to_numpy() for name in found.table.columns}
    return dataclasses.replace(
        explanation,
        table=explanation.table.assign(**columns),
        summary={**explanation.summary, "cells": dict(found.summary)},
    )
