"""One fault in a random screen; every kind of fault occurs in real folders."""

import random
from collections.abc import Callable

from fuzz_drafts import Draft
from fuzz_names import counting_from_0, folders_that_are_no_plates, mixed_moments, thumbnails, well_spelling
from fuzz_pages import instrument_metadata, more_pages, stored_pixels
from fuzz_screens import whole_screen
from fuzz_tables import csv_heads, many_tables, missing_labels, unicode_forms, user_columns

Kind = Callable[[random.Random], Draft]
KINDS: dict[str, Kind] = {
    "none": whole_screen,
    "counting from 0": counting_from_0,
    "more pages": more_pages,
    "mixed moments": mixed_moments,
    "many tables": many_tables,
    "instrument metadata": instrument_metadata,
    "folders that are no plates": folders_that_are_no_plates,
    "well spelling": well_spelling,
    "stored pixels": stored_pixels,
    "user columns": user_columns,
    "missing labels": missing_labels,
    "unicode forms": unicode_forms,
    "heads of tables": csv_heads,
    "thumbnails": thumbnails,
}
_OFTEN = {"none": 6, "more pages": 2, "mixed moments": 2, "counting from 0": 2, "folders that are no plates": 2}


def screen_of(seed: int) -> Draft:
    """Make up the screen of a seed, with one fault or, about every third time, none."""
    rng = random.Random(seed)
    names = [name for name in KINDS for _ in range(_OFTEN.get(name, 1))]
    return KINDS[rng.choice(names)](rng)
