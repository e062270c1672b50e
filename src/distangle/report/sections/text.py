"""Format values of result files as text."""

from collections.abc import Mapping, Sequence

from distangle.report.html import spaced


def format_value(value: object) -> str:
    """Format a number, list or text of a results file."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{spaced(str(key))} {format_value(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [format_value(item) for item in value[:24]]
        return ", ".join(items) + (f", … ({len(value)} in all)" if len(value) > 24 else "")
    return str(value)
