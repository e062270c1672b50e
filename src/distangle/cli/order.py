"""The verbs in the order of work, and an example of each for its help."""

from cyclopts import Group

WORK = Group("The main job, in its order", sort_key=1)
SCREEN = Group("Around a screen", sort_key=2)
RUN = Group("Around a run", sort_key=3)
PROGRAM = Group("Around the program", sort_key=4)

# Every verb once: its group, and what a person would type.
VERBS: dict[str, tuple[Group, str]] = {
    "index": (WORK, "distangle index plates --out screen"),
    "check": (WORK, "distangle check screen"),
    "train": (WORK, "distangle train screen --preset small --out runs/first"),
    "predict": (WORK, "distangle predict runs/first"),
    "explain": (WORK, "distangle explain runs/first --n-sites 48"),
    "figures": (WORK, "distangle figures runs/first"),
    "report": (WORK, "distangle report runs/first"),
    "simulate": (SCREEN, "distangle simulate plates --set n_treatments=8"),
    "statistics": (SCREEN, "distangle statistics screen --out card"),
    "folds": (SCREEN, "distangle folds screen --hold-out experiment=HUVEC-02 --out folds.parquet"),
    "pack": (SCREEN, "distangle pack screen --out packed"),
    "settings": (RUN, "distangle settings --preset small > my.yaml"),
    "verify": (RUN, "distangle verify runs/first"),
    "trust": (RUN, "distangle trust from-a-colleague/screen"),
    "ablate": (RUN, "distangle ablate screen --out ablation --preset scratch --seeds 0,1,2"),
    "demo": (PROGRAM, "distangle demo --out demo"),
    "help": (PROGRAM, "distangle help train"),
    "version": (PROGRAM, "distangle version"),
}


def example(name: str) -> str:
    """Return the end of a verb's help."""
    return f"Example: `{VERBS[name][1]}`"
