"""A folder as the Cell Painting Gallery has it, written file by file."""

from pathlib import Path
from typing import Any

from distangle.screen import Screen, index

HEADER = "FileName_OrigDNA,PathName_OrigDNA,FileName_OrigER,PathName_OrigER,FileName_IllumDNA,PathName_IllumDNA,"


HEADER += "Metadata_Plate,Metadata_Well,Metadata_Site,Metadata_Note"


ELSEWHERE = "/home/ubuntu/bucket/projects/cpg/images/B1/images"


class Gallery:
    """A folder as the Cell Painting Gallery has it: batch B1, plates P1 and P2."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Path:
        whole = self.root / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text, encoding="utf-8", newline="")
        return whole

    def images(self, plate: str, *names: str) -> None:
        for name in names:
            self.write(f"images/B1/images/{plate}/Images/{name}", f"{plate}/{name}")

    def rows(self, plate: str, *rows: str, header: str = HEADER) -> None:
        self.write(f"workspace/load_data_csv/B1/{plate}/load_data.csv", "\n".join([header, *rows]) + "\n")

    def site(self, plate: str, well: str, site: int, *, folder: str | None = None) -> str:
        """Write both images of a site; return its row."""
        files = [f"{well}_{site}_{k}.tiff" for k in (1, 2)]
        self.images(plate, *files)
        image_folder = folder or f"{ELSEWHERE}/{plate}/Images"
        return f"{files[0]},{image_folder},{files[1]},{image_folder},P_IllumDNA.npy,/illum,{plate},{well},{site},1E05"

    def maps(self, barcodes: str, **maps: str) -> None:
        self.write(
            "workspace/metadata/platemaps/B1/barcode_platemap.csv", "Assay_Plate_Barcode,Plate_Map_Name\n" + barcodes
        )
        for name, text in maps.items():
            self.write(f"workspace/metadata/platemaps/B1/platemap/{name}.txt", text)


def index_gallery(gallery: Gallery, **options: Any) -> Screen:
    return index(gallery.root, layout="cellpainting", **options)


def refusals(screen: Screen) -> list[tuple[str, str, str]]:
    rows = screen.problems[screen.problems["severity"] == "refused"]
    return sorted(zip(rows["kind"], rows["plate"], rows["well"], strict=True))
