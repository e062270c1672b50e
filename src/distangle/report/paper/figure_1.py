"""Figure 1: the channels of one image, side by side."""

import numpy as np
from matplotlib.figure import Figure

from distangle.images import composites
from distangle.report.data import ReportData
from distangle.report.paper.figure import (
    PaperFigure,
    UnavailableFigure,
    channel_names,
    drawing,
    example_sites,
    merge_tables,
    picture,
    place_of,
    read,
)

TITLE = "The channels of one site"


def draw(material: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw every channel of a site in grey and all of them merged.

    Source: Fig. 1
    """
    row = example_sites(material, most=1)[0]
    image = read(material, row)
    channels = composites.stretch(image, composites.contrast_limits([image]))
    names = channel_names(material)
    alike = np.atleast_2d(np.corrcoef(image.reshape(len(image), -1).astype(np.float64)))
    pairs = alike[np.triu_indices(len(image), 1)]
    pairs = pairs[np.isfinite(pairs)]
    n_columns = -(-(len(image) + 1) // 2) if len(image) > 3 else len(image) + 1
    n_rows = -(-(len(image) + 1) // n_columns)
    with drawing():
        figure = Figure(figsize=(2.0 * n_columns, 2.25 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, channel, (name, what), pixels in zip(panels, channels, names, image, strict=False):
            grey = np.repeat(np.round(channel * 255).astype(np.uint8)[..., None], 3, axis=2)
            picture(axes, grey, name, below=f"{what}\nmean {pixels.mean():.1f}, spread {pixels.std():.1f}".lstrip())
        picture(panels[len(image)], merge_tables(image, material), "all, in their colours")
    where = place_of(material, row)
    numbers = {
        "site": where,
        "mean": [float(pixels.mean()) for pixels in image],
        "standard_deviation": [float(pixels.std()) for pixels in image],
        "mean_correlation_of_two_channels": float(pairs.mean()) if len(pairs) else None,
        "largest_correlation_of_two_channels": float(pairs.max()) if len(pairs) else None,
    }
    said = ""
    if len(pairs):
        said = (
            f" Two channels of this image correlate by {pairs.mean():.2f} on average (at most {pairs.max():.2f}): "
            "where they are alike, a map over the image cannot tell one channel from the other."
        )
    caption = (
        f"{place_of(material, row)}. Each channel at a contrast of its own; means are of the pixels as read.{said}"
    )
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)
