"""Draw figure 5: image A, image B and their CutMix image."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distangle.core.random import rng_for
from distangle.report.charts import ORANGE
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
)

TITLE = "CutMix"


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw two sites and their CutMix mixture, with the weights of their labels.

    Source: Fig. 5
    """
    # A late import: the report package must load without torch, which the training package needs.
    from distangle.training.data.cutmix import mix_images, random_box, remaining_area

    rows = example_sites(data, limit=2)
    if len(rows) < 2:
        return UnavailableFigure(title=TITLE, reason="CutMix needs two wells, and the screen has one.")
    pair = [read(data, row) for row in rows]
    if pair[0].shape != pair[1].shape:
        return UnavailableFigure(
            title=TITLE, reason=f"The two sites differ in size: {pair[0].shape} and {pair[1].shape}."
        )
    height, width = pair[0].shape[1:]
    cutmix = data.config.get("cutmix", {})
    rng = rng_for(0, "figure 5")
    box = random_box(rng, height=height, width=width, alpha=float(cutmix.get("alpha", 1.0)))
    while not 0.15 < remaining_area(box, height=height, width=width) < 0.85:  # a clearly visible box
        box = random_box(rng, height=height, width=width, alpha=float(cutmix.get("alpha", 1.0)))
    weight = remaining_area(box, height=height, width=width)
    mixed = mix_images(np.stack(pair), np.array([1, 0]), box)[0]
    merged = merged_channels(pair[0])
    with drawing():
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        names = [str(data.screen.sites.iloc[row].perturbation) or "unlabelled" for row in rows]
        captions = (f"A: {names[0]}", f"B: {names[1]}", f"{weight:.2f} A + {1 - weight:.2f} B")
        for axes, image, text, title in zip(
            figure.subplots(1, 3), (*pair, mixed), captions, ("Image A", "Image B", "CutMix image"), strict=True
        ):
            picture(axes, merge_channels(image, merged, others=pair), title, caption=text)
        for axes in figure.axes[1:]:
            axes.add_patch(
                Rectangle(
                    (box.left - 0.5, box.top - 0.5),
                    box.right - box.left,
                    box.bottom - box.top,
                    fill=False,
                    edgecolor=ORANGE,
                    linewidth=1.6,
                )  # fmt: skip
            )
    share = cutmix.get("probability")
    usage = f" This run mixed {share:.0%} of its batches." if share else " This run was trained without CutMix."
    caption = (
        f"A: {describe_site(data, rows[0])}. B: {describe_site(data, rows[1])}. The box of B covers "
        f"{1 - weight:.1%} of A, so the label is {weight:.3f} of A and {1 - weight:.3f} of B."
        f"{usage if data.config else ''} Colors: {merge_sentence(data.screen.metadata.channels, merged)}."
    )
    numbers = {"lambda": weight, "box": [box.top, box.left, box.bottom, box.right], "probability": share}
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)
