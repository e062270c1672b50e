"""Draw figure 1: the channels of one image, side by side."""

import numpy as np
from matplotlib.figure import Figure

from distangle.images import composites
from distangle.report.data import ReportData
from distangle.report.merging import merge_channels, merge_sentence, merged_channels
from distangle.report.paper.figure import (
    PaperFigure,
    UnavailableFigure,
    describe_site,
    drawing,
    example_sites,
    picture,
    read,
    scale_sentence,
    with_scale,
)
from distangle.screen import channel_labels

TITLE = "The channels of one site"


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw every channel of a site in grey and up to three of them merged.

    Source: Fig. 1
    """
    row = example_sites(data, limit=1)[0]
    image = read(data, row)
    channels = composites.stretch(image, composites.contrast_limits([image]))
    labels, merged = channel_labels(data.screen.metadata.channels), merged_channels(image)
    correlations = np.atleast_2d(np.corrcoef(image.reshape(len(image), -1).astype(np.float64)))
    pairs = correlations[np.triu_indices(len(image), 1)]
    pairs = pairs[np.isfinite(pairs)]
    n_panels = len(image) + (len(image) > 1)
    n_columns = -(-n_panels // 2) if n_panels > 4 else n_panels
    n_rows = -(-n_panels // n_columns)
    with drawing():
        figure = Figure(figsize=(max(3.0, 2.0 * n_columns), 2.75 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in panels[n_panels:]:
            axes.set_axis_off()
        for axes, channel, label, pixels in zip(panels, channels, labels, image, strict=False):
            grey = np.repeat(np.round(channel * 255).astype(np.uint8)[..., None], 3, axis=2)
            picture(axes, with_scale(grey, data), label, caption=f"mean {pixels.mean():.1f}, SD {pixels.std():.1f}")
        if len(image) > 1:
            pixels_drawn = with_scale(merge_channels(image, merged), data)
            picture(
                panels[len(image)],
                pixels_drawn,
                "merged",
                caption=merge_sentence(data.screen.metadata.channels, merged).replace(", ", "\n"),
            )
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
    caption = (
        f"{site}. Each channel has its own contrast. Mean and standard deviation (SD) are of the raw pixel values "
        f"({image.dtype}). {scale_sentence(data, image.shape[2])}{correlation_sentence}"
    )
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)
