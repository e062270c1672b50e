"""Draw figure 1: the channels of one image, side by side."""

import numpy as np
from matplotlib.figure import Figure

from distangle.images import composites
from distangle.report.data import ReportData
from distangle.report.paper.figure import (
    PaperFigure,
    UnavailableFigure,
    channel_names,
    describe_site,
    drawing,
    example_sites,
    merge_channels,
    picture,
    read,
)

TITLE = "The channels of one site"


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw every channel of a site in grey and all of them merged.

    Source: Fig. 1
    """
    row = example_sites(data, limit=1)[0]
    image = read(data, row)
    channels = composites.stretch(image, composites.contrast_limits([image]))
    names = channel_names(data)
    correlations = np.atleast_2d(np.corrcoef(image.reshape(len(image), -1).astype(np.float64)))
    pairs = correlations[np.triu_indices(len(image), 1)]
    pairs = pairs[np.isfinite(pairs)]
    n_columns = -(-(len(image) + 1) // 2) if len(image) > 3 else len(image) + 1
    n_rows = -(-(len(image) + 1) // n_columns)
    with drawing():
        figure = Figure(figsize=(2.0 * n_columns, 2.25 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, channel, (name, content), pixels in zip(panels, channels, names, image, strict=False):
            grey = np.repeat(np.round(channel * 255).astype(np.uint8)[..., None], 3, axis=2)
            picture(axes, grey, name, caption=f"{content}\nmean {pixels.mean():.1f}, std {pixels.std():.1f}".lstrip())
        picture(panels[len(image)], merge_channels(image, data), "all channels merged")
    site = describe_site(data, row)
    numbers = {
        "site": site,
        "mean": [float(pixels.mean()) for pixels in image],
        "standard_deviation": [float(pixels.std()) for pixels in image],
        "mean_correlation_of_two_channels": float(pairs.mean()) if len(pairs) else None,
        "largest_correlation_of_two_channels": float(pairs.max()) if len(pairs) else None,
    }
    correlation_sentence = ""
    if len(pairs):
        correlation_sentence = (
            f" Two channels of this image correlate by {pairs.mean():.2f} on average (at most {pairs.max():.2f}): "
            "where they are similar, an attribution map cannot separate them."
        )
    caption = f"{site}. Each channel has its own contrast; means are of the raw pixels.{correlation_sentence}"
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)
