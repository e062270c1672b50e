"""Predict a screen part by part: whole plates, each image decoded once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distangle.core.distributed import all_gather, check_once, sum_array
from distangle.core.shrinkage import GROUP_COLUMNS
from distangle.images import ImageCache, fit_normalization, own_statistics
from distangle.images.preprocessing import GROUP
from distangle.model import ModelCard, PerturbationClassifier, PlateBatchNorm, control_features, eval_mode
from distangle.model.forward import BatchPlan, SiteInputs, view_outputs
from distangle.model.modes import channels_last
from distangle.model.plate_batch_norm import CellTypesOf
from distangle.results.backbone_features import Features
from distangle.results.prediction_parts import PredictionPart
from distangle.screen.plate_groups import group_codes
from distangle.screen.screen import PLATE_COLUMNS

# Always full and of one size, so that a prediction does not depend on other sites of its batch.
BATCH_PLAN = BatchPlan(size=32, always_full=True, channels_last=True)
PART_SITES = 512  # a part has at least so many sites, if the screen has


@dataclass(frozen=True, kw_only=True)
class PartPredictor:
    """A network and all that it needs to predict the parts of a screen.

    Attributes:
        model: The network; its mode and memory format are restored after each part.
        card: Saved with its weights.
        store: The images of the screen.
        cell_types: Returns one-hot cell types of rows; None for a network without them.
        views: Numbers of views to average; each view is computed once.
        norms: Batch-norm statistics of every plate; None: the running statistics for all.
        features: Features of a frozen backbone; with them no image is read.
    """

    model: PerturbationClassifier
    card: ModelCard
    store: ImageCache
    cell_types: CellTypesOf
    views: Sequence[int]
    norms: PlateBatchNorm | None = None
    features: Features | None = None

    def plan(self, rows: Sequence[int]) -> list[np.ndarray]:
        """Divide sites into parts, int64 [site] each, in the order of their plates.

        A part has whole plates; whole experiments if the images of a plate are standardized or corrected by those of
        its experiment. It has consecutive plates until it has `PART_SITES` sites, so the plan depends on nothing but
        the screen and the settings of the network.

        Args:
            rows: Sites of the screen.
        """
        columns = tuple(PLATE_COLUMNS)
        by = self.store.preprocessing.standardize
        correction = self.model.config.correction
        if GROUP.get(by) == ["experiment"] or (
            self.model.prior is not None and list(GROUP_COLUMNS[correction.group]) == ["experiment"]
        ):
            columns = columns[:1]
        positions = np.asarray(rows, dtype=np.int64)
        codes = group_codes(self.store.screen.sites, columns)[positions]
        order = np.lexsort((positions, codes))
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1)).tolist()
        parts, start = [], 0
        for end in [*starts[1:], len(order)]:
            if end - start >= PART_SITES or end == len(order):
                parts.append(np.sort(positions[order[start:end]]))
                start = end
        return [part for part in parts if len(part)]

    def predict(self, rows: np.ndarray, *, report: Callable[[int], None]) -> PredictionPart:
        """Predict the sites of one part.

        Every image is decoded once. If the images of a group are needed first (standardize=plate, a correction by
        controls), they stay in the cache of the store until the part ends; those beyond its memory are decoded twice.

        Args:
            rows: From `plan`, or sites of one of these parts.
            report: Called with the number of sites after every batch.

        Raises:
            WeightsError: A plate has no statistics in `norms`.
        """
        store, features = self.store, self.features
        is_own = not store.preprocessing.transductive and self.model.prior is None
        if features is not None:
            readable, statistics = features.readable(rows), features.statistics
        elif is_own:
            readable, statistics = rows.tolist(), own_statistics(store)
        else:
            readable, statistics = fit_normalization(store, rows.tolist())
        references = control_features(self.model, store, readable, features=features)
        inputs = SiteInputs(
            store=store,
            statistics=statistics,
            features=features,
            references=references,
            cell_types=self.cell_types,
            norms=self.norms,
        )
        position = {int(row): k for k, row in enumerate(rows)}
        sizes = {"logits": len(self.card.classes), "embedding": self.model.config.embedding_size}
        means = {
            n: {name: np.zeros((len(rows), size), dtype=np.float32) for name, size in sizes.items()} for n in self.views
        }
        n_visits = np.zeros(len(rows), dtype=np.int64)
        with eval_mode(self.model), channels_last(self.model):
            for batch, outputs_of_views in view_outputs(
                self.model, inputs, readable, plan=BATCH_PLAN, n_views=max(self.views), keep=not is_own
            ):
                slots = [position[row] for row in batch]
                for view, outputs in enumerate(outputs_of_views):
                    for name in sizes:
                        values = getattr(outputs, name).float().cpu().numpy()
                        for n in self.views:
                            if view < n:
                                means[n][name][slots] += values / n
                n_visits[slots] += 1
                report(len(batch))
        store.release(rows.tolist())
        return self._join_ranks(rows, means, n_visits)

    def _join_ranks(
        self, rows: np.ndarray, means: Mapping[int, Mapping[str, np.ndarray]], n_visits: np.ndarray
    ) -> PredictionPart:
        """Add up what the ranks have predicted, and mark unreadable sites."""
        reasons = self.store.reasons if self.features is None else self.features.reasons
        own_reasons = {str(row): reasons[row] for row in rows.tolist() if row in reasons}
        all_reasons = {
            int(k): text for part in all_gather(own_reasons, where="the prediction") for k, text in part.items()
        }
        is_unreadable = np.array([row in all_reasons for row in rows.tolist()], dtype=bool)
        was_predicted = n_visits > 0
        check_once(n_visits, np.flatnonzero(~is_unreadable).tolist(), where="the prediction")
        statistics = (self.store if self.features is None else self.features).statistics[rows]
        if self.features is None:
            if not self.store.preprocessing.transductive and self.model.prior is None:
                statistics = np.where(was_predicted[:, None, None], statistics, 0).astype(np.float32)
                sum_array(statistics, where="the prediction")
                statistics[is_unreadable] = np.nan
            self.store.statistics[rows] = statistics
            self.store.reasons.update(all_reasons)
        for values in (array for by_name in means.values() for array in by_name.values()):
            sum_array(values, where="the prediction")
            values[is_unreadable] = np.nan
        return PredictionPart(
            rows=rows,
            reasons=tuple(all_reasons.get(row, "") for row in rows.tolist()),
            logits={n: by_name["logits"] for n, by_name in means.items()},
            embedding={n: by_name["embedding"] for n, by_name in means.items()},
            statistics=statistics,
        )


def predict_parts(
    predictor: PartPredictor, rows: Sequence[int], *, report: Callable[[int, int], None]
) -> Iterator[PredictionPart]:
    """Predict all parts of some sites, one after the other.

    Args:
        predictor: The network and the images.
        rows: Sites of the screen.
        report: Called with the number of predicted sites and their total after every batch.
    """
    n_before, n_in_part = 0, 0

    def add(n: int) -> None:
        nonlocal n_in_part
        n_in_part += n
        report(n_before + n_in_part, len(rows))

    for part in predictor.plan(rows):
        yield predictor.predict(part, report=add)
        n_before, n_in_part = n_before + len(part), 0
        report(n_before, len(rows))
