"""The page of profiles without a run: one file, no torch, nothing from outside."""

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distangle.report.html import check_page, style_sheet
from distangle.report.profile_page import build_profile_page
from profile_results import profile_result


def test_the_page_is_one_file_with_the_section(tmp_path: Path) -> None:
    path = build_profile_page(tmp_path, profile_result(["a", "b", "c"]))
    assert path == tmp_path / "report.html"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    page = path.read_text(encoding="utf-8")
    assert 'href="style.css"' not in page
    assert '<a href="hits.csv">hits.csv</a>' in page
    assert "2 of 3 perturbations were tested" in page
    assert "<h1>profiles.parquet</h1>" in page
    assert "The profile has no finite value." in page
    assert page.count('class="scatter"><rect') == 4


def test_the_policy_admits_this_style_sheet_only(tmp_path: Path) -> None:
    page = build_profile_page(tmp_path, profile_result(["a", "b"])).read_text(encoding="utf-8")
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    hash_of_style = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{hash_of_style}'\"" in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


@pytest.mark.parametrize("place", ["<body>", "</head>"])
def test_another_style_sheet_is_refused(tmp_path: Path, place: str) -> None:
    page = build_profile_page(tmp_path, profile_result(["a", "b"])).read_text(encoding="utf-8")
    check_page(page, style=style_sheet())
    with pytest.raises(ValueError, match="policy forbids the element 'style'"):
        check_page(page.replace(place, f"{place}<style>p{{}}</style>", 1), style=style_sheet())
    with pytest.raises(ValueError, match="policy forbids the element 'style'"):
        check_page(page)


def test_a_hostile_source_comes_out_as_text(tmp_path: Path) -> None:
    result = profile_result(["<script>alert(1)</script>", "b"])
    settings = {**result.settings, "source": "</title><script>alert(2)</script>"}
    page = build_profile_page(tmp_path, result.__class__(**{**vars(result), "settings": settings})).read_text()
    assert "<script" not in page


def test_the_page_needs_no_torch() -> None:
    code = "import sys, distangle.report.profile_page; print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
