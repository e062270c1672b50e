"""The verb that compares: ablate."""

from pathlib import Path
from typing import Literal

from distangle.cli.console import remark, tell, tell_table
from distangle.cli.runs import make_folds
from distangle.cli.typed import line
from distangle.cli.words import Words, refuse_beside, whole_numbers
from distangle.progress import progress


def ablate(
    screen: Path | None = None,
    *,
    out: Path,
    only: str | None = None,
    seeds: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    hold_out: str | None = None,
    unlabelled: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: Literal["experiment", "plate", "well"] | None = None,
    fold_file: Path | None = None,
    force_split: bool = False,
    target: str | None = None,
    epochs: int | None = None,
    set: Words = (),
) -> None:
    """Compare the parts of the recipe (Fig. 6): train every condition with several seeds, and say what each is worth.

    Stopped at any point, the same words go on with it; so does `distangle ablate --out DIR` alone.

    Args:
        screen: Folder from `distangle index`.
        out: Folder of the ablation; every run lies in its runs/.
        only: Some of the conditions, such as `baseline,cutmix`; others can be added later.
        seeds: Such as `0,1,2`, the default; others can be added later.
        preset: As in `distangle train`.
        config: As in `distangle train`.
        hold_out: As in `distangle train`; the same in every run.
        unlabelled: Wells whose labels are hidden, for pseudo labels: `experiment=HUVEC-03`.
        folds: As in `distangle train`.
        fold: As in `distangle train`.
        group: As in `distangle train`.
        fold_file: As in `distangle train`.
        force_split: As in `distangle train`.
        target: As in `distangle train`.
        epochs: Instead of the preset's.
        set: Any other setting of all runs, such as `optim.lr=1e-4`; `--optim.lr 1e-4` is the same.
    """
    from distangle.ablation import (
        chosen_conditions,
        compare,
        continue_ablation,
        plan_ablation,
        run_ablation,
        write_comparison,
    )
    from distangle.ablation.page import beware, table_lines
    from distangle.ablation.run import pieces
    from distangle.screen import allowed, read_screen
    from distangle.training import resolve_config, stop_at_signals

    folding = {
        "--hold-out": hold_out,
        "--unlabelled": unlabelled,
        "--folds": folds,
        "--fold": fold,
        "--group": group,
        "--fold-file": fold_file,
        "--force-split": force_split or None,
    }
    if screen is None:
        setting = {"--preset": preset, "--config": config, "--target": target, "--epochs": epochs, "--set": set or None}
        others = {**folding, **setting}
        refuse_beside(f"--out {out}", others, "Without a screen, the ablation in that folder goes on as it was begun.")
        more = () if only is None else chosen_conditions(only)
        plan = continue_ablation(out, conditions=more, seeds=whole_numbers(seeds or "", flag="--seeds"), command=line())
    else:
        asked = resolve_config(preset, set, file=config, target=target, epochs=epochs)
        indexed = allowed(read_screen(screen))
        # Every run has the same folds, whatever the seed of the recipe.
        divided = make_folds(indexed, folding, label=asked.target, seed=0)
        plan = plan_ablation(
            indexed,
            divided,
            asked,
            out,
            conditions=chosen_conditions(only),
            seeds=whole_numbers(seeds or "0,1,2", flag="--seeds"),
            command=line(),
        )
    again = f"Go on with `distangle ablate --out {out}`."
    with stop_at_signals(again) as stop, progress("ablate", pieces(plan), unit="piece") as advance:
        run_ablation(plan, command=line(), advance=advance, say=remark, stop=stop)
    found = compare(plan)
    page = write_comparison(plan, found)
    heads = ("condition", "level", "views", "accuracy", "over baseline", "balanced", "over baseline", "seeds", "n")
    tell_table(heads, table_lines(found))
    for sentence in beware(found):
        remark(sentence)
    tell(str(page))
