"""Show the figures of the paper that `distangle figures` drew from the run."""

from pathlib import Path

from PIL import Image

from distangle.commit import committed
from distangle.reading import whole
from distangle.report.material import Material
from distangle.report.page import Content
from distangle.report.paper import read_listed


def figures(material: Material, folder: Path) -> Content | None:
    """Show the figures of the paper with their captions; None where none was drawn.

    Args:
        material: Of the run.
        folder: Of the report; the pictures are copied into it.
    """
    source = material.run.explanations / "figures"
    shown = []
    for number, listed in read_listed(source).items():
        if "missing" in listed:
            shown.append({"number": number, "missing": listed["missing"], "command": listed["command"]})
            continue
        name = next((name for name in listed["files"] if name.endswith(".png")), f"figure-{int(number):02d}.png")
        fix = f"Draw it again: `distangle figures {material.run.root}`."
        with whole(source / name, fix=fix), Image.open(source / name, formats=["PNG"]) as picture:
            width = picture.width
        with committed(folder / "figures" / name) as temporary:
            temporary.write_bytes((source / name).read_bytes())
        shown.append({
            "missing": "", "source": f"figures/{name}", "title": f"Figure {number}. {listed['title']}",
            "width": min(880, width // 2), "caption": listed["caption"],
        })  # fmt: skip
    return Content("sections/paper_figures.html.j2", {"figures": shown}) if shown else None
