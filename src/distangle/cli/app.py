"""The command line application that the verbs hang on."""

import cyclopts

from distangle import __version__

app = cyclopts.App(
    name="distangle",
    version=__version__,
    suppress_keyboard_interrupt=False,  # `main` says what can be done after it
    help="Learn what a perturbation does to cells from multi-channel microscopy plates, apart from batch noise, "
    "and show which place and which stain gave it away.",
)
