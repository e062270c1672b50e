"""The section with the figures of the paper, as `distangle figures` drew them."""

from pathlib import Path

from PIL import Image

from distangle.commit import committed
from distangle.reading import whole
from distangle.report.material import Material
from distangle.report.page import Markup, element, joined, paragraph
from distangle.report.paper import read_listed


def figures(material: Material, folder: Path) -> Markup | None:
    """Show the figures of the paper with their captions; None where none was drawn.

    Args:
        material: Of the run.
        folder: Of the report; the pictures are copied into it.
    """
    source = material.run.explanations / "figures"
    parts = []
    for number, said in read_listed(source).items():
        if "missing" in said:
            made_by = f" `{said['command']}` makes it." if said["command"] else ""
            parts.append(paragraph(f"Figure {number} is not drawn: {said['missing']}{made_by}", class_="absent"))
            continue
        name = next((name for name in said["files"] if name.endswith(".png")), f"figure-{int(number):02d}.png")
        fix = f"Draw it again: `distangle figures {material.run.root}`."
        with whole(source / name, fix=fix), Image.open(source / name, formats=["PNG"]) as picture:
            width = picture.width
        with committed(folder / "figures" / name) as temporary:
            temporary.write_bytes((source / name).read_bytes())
        title = f"Figure {number}. {said['title']}"
        parts.append(
            element(
                "figure",
                element("img", src=f"figures/{name}", alt=title, width=min(880, width // 2), loading="lazy"),
                element("figcaption", element("strong", f"{title}. "), said["caption"]),
                class_="paper",
            )
        )
    return joined(parts) if parts else None
