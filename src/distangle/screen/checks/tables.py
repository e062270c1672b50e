"""All checks that need no pixel."""

from collections.abc import Mapping

from distangle.screen.checks.carried import carry_over
from distangle.screen.checks.coding import check_coding
from distangle.screen.checks.controls import check_controls
from distangle.screen.checks.copies import check_copies
from distangle.screen.checks.finding import Checked
from distangle.screen.checks.gaps import check_gaps
from distangle.screen.checks.laws import check_totals, conservation
from distangle.screen.checks.placement import check_placement
from distangle.screen.checks.provenance import check_provenance
from distangle.screen.table import Screen


def check_tables(screen: Screen, *, like: Screen | None = None, expected: Mapping[str, int] | None = None) -> Checked:
    """Check what the tables of a screen say.

    Args:
        screen: As `distangle index` wrote it.
        like: Another screen whose labels must be of the same coding; None for none.
        expected: Totals that somebody states, such as `{"wells": 62755}`.

    Raises:
        ScreenError: A total of something that is not counted.
    """
    findings = [
        *carry_over(screen),
        *check_provenance(screen),
        *check_placement(screen),
        *check_copies(screen),
        *check_gaps(screen),
        *check_coding(screen, like),
        *check_controls(screen),
        *check_totals(screen, expected),
    ]
    looked = {"sites": len(screen.sites), "refused": screen.card.refused, "sites_sha256": screen.card.sites_sha256}
    return Checked(findings=tuple(findings), laws=tuple(conservation(screen)), looked=looked)
