"""Problems of the index as findings beside those of the checks."""

from distangle.screen.problems import Problem, read_problems
from distangle.screen.table import Screen


def carry_over(screen: Screen) -> list[Problem]:
    """Return the rows of `problems.csv` as findings; a refusal is an error."""
    return [problem.as_finding() for problem in read_problems(screen.problems)]
