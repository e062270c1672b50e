"""`python -m distangle` is `distangle`."""

from distangle.cli import main

main()
