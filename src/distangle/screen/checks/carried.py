"""What the index refused or warned of, as findings beside the others."""

from distangle.screen.checks.finding import Finding
from distangle.screen.table import Screen


def carry_over(screen: Screen) -> list[Finding]:
    """Return the rows of `problems.csv` as findings: what was refused is an error, for it is not in the screen."""
    found = []
    for row in screen.problems.to_dict("records"):
        line = f", line {row['row']}" if row["row"] else ""
        expected = f", expected {row['expected']}" if row["expected"] else ""
        found.append(
            Finding(
                severity="error" if row["severity"] == "refused" else "warning",
                kind=str(row["kind"]),
                what=f"found {row['found'] or 'nothing'}{expected}",
                experiment=str(row["experiment"]),
                plate=str(row["plate"]),
                well=str(row["well"]),
                site=str(row["site"]),
                channel=str(row["channel"]),
                file=f"{row['file']}{line}",
                fix=str(row["fix"]),
                count=int(row["count"]),
            )
        )
    return found
