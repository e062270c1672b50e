"""Collect means and variances of every norm for a group of images, and use them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.axes import CellTypes, Images
from distangle.errors import WeightsError, did_you_mean
from distangle.model.classifier import PerturbationClassifier
from distangle.model.modes import eval_mode

NormStatistics = Mapping[str, Tensor]
"""`NAME.mean` and `NAME.variance`, float32 [feature], of every norm by its name in the network."""

EPSILON = 1e-5  # of a variance, as in the norms themselves

Pieces = Callable[[], Iterable[tuple[Images, CellTypes | None]]]


@dataclass
class _Pooled:
    """Moments of all pieces together, by the law of total variance."""

    n: float = 0.0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    variance: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the input of a norm; return its own mean and variance, float32."""
        axes = [axis for axis in range(maps.ndim) if axis != 1]
        variance, mean = torch.var_mean(maps.float(), axes, correction=0)
        n = maps.numel() / maps.shape[1]
        share, apart = n / (self.n + n), mean.double() - self.mean.to(mean.device)
        before = self.variance.to(mean.device)
        self.variance = (1 - share) * before + share * variance.double() + share * (1 - share) * apart.square()
        self.mean = self.mean.to(mean.device) + share * apart
        self.n += n
        return mean, variance


def collect_statistics(
    model: PerturbationClassifier, pieces: Pieces, *, contrast: NormStatistics | None = None
) -> NormStatistics:
    """Collect the statistics of every norm over a group of images.

    The network normalises the group by them while they are collected.

    Every layer is measured behind layers that use the group's statistics already. Where the group is one piece this
    is exact: evaluation with the result equals a forward pass in training mode over the whole group. Of several
    pieces, the backbone normalises each by its own statistics, as it does batches of one plate in training, and
    their moments are pooled; the neck, whose norms see one number per image and would feel it most, is then measured
    behind that backbone over the whole group at once, exactly.

    Source: Li et al. 2016, Revisiting batch normalization for practical domain adaptation (arXiv:1603.04779).
    Departs: variances are those of the group (divided by n), which is what a batch is normalised by in training;
        running statistics divide by n - 1.

    Args:
        model: Left as it was found.
        pieces: Gives the group, standardised, in pieces of at least two images; called twice for several pieces.
        contrast: From `collect_contrast`: the images are negative controls, and the statistics those that their whole
            plate would have. None: they are the group.

    Raises:
        ValueError: There is no piece.
    """
    running = _running(model)
    with eval_mode(model), torch.no_grad():
        with _measured(model.backbone, contrast, prefix="backbone.") as found, use_statistics(model, running):
            pooled, cell_types = _pooled_features(model, pieces)
        if len(pooled) == 0:
            raise ValueError("A group of no images has no statistics.")
        backbone = _statistics(found, contrast)
        if len(pooled) > 1:
            with use_statistics(model, {**running, **backbone}):
                pooled, cell_types = _pooled_features(model, pieces)
        with _measured(model.neck, contrast, prefix="neck.") as found, use_statistics(model, running):
            model.classify(torch.cat(pooled), torch.cat(cell_types) if cell_types else None)
    return {**backbone, **_statistics(found, contrast)}


def collect_contrast(model: PerturbationClassifier, groups: Iterable[tuple[Pieces, Pieces]]) -> NormStatistics:
    r"""Compare the statistics of whole plates with those of their negative controls.

    A plate normalises its images by the statistics of all of them, $(\mu_a, \sigma_a^2)$, in training as with
    `batch_norm.statistics=plate`. Behind layers that do so, its controls alone have $(\mu_c, \sigma_c^2)$ at every
    norm. What the treatments add is about the same on every plate: its means over the training plates,

    $$ d = \overline{(\mu_a - \mu_c) / \sigma_a}, \qquad r = \overline{\log(\sigma_a^2 / \sigma_c^2)} $$

    turn the controls of another plate into the statistics that it would have with the treatments of training:
    $\sigma^2 = e^r \sigma_c^2$, $\mu = \mu_c + d \sigma$. These depend on no treatment of that plate.

    Source: after Lin and Lu 2022, Incorporating knowledge of plates in batch normalization improves generalization of
        deep learning for microscopy images (PMLR 200), who normalise by the plate in training and at test time.
    Departs: theirs rests on all images of a plate, and fails where test plates carry other treatments. A variance
        is at least a tenth of its mean over the training plates: what is silent in a few controls would else
        be amplified without bound.

    Args:
        model: Left as it was found.
        groups: For each training plate the pieces of all its images and of its controls.

    Raises:
        ValueError: There is no group.
    """
    sums: dict[str, Tensor] = {}
    n = 0
    for everything, controls in groups:
        n += 1
        whole = collect_statistics(model, everything)
        with eval_mode(model), torch.no_grad(), _measured(model, sets=False) as found, use_statistics(model, whole):
            for images, cell_types in controls():
                model(images, cell_types)
        alone = _statistics(found)
        for name in found:
            mean, variance = whole[f"{name}.mean"].double(), whole[f"{name}.variance"].double()
            spread, of_controls = variance + EPSILON, alone[f"{name}.variance"].double() + EPSILON
            added = {
                f"{name}.shift": (mean - alone[f"{name}.mean"].double()) / spread.sqrt(),
                f"{name}.ratio": (spread / of_controls).log(),
                f"{name}.least": 0.1 * variance,
            }
            sums |= {key: value + sums.get(key, 0) for key, value in added.items()}
    if n == 0:
        raise ValueError("A contrast needs at least one plate.")
    return {key: (value / n).float() for key, value in sums.items()}


class use_statistics(contextlib.AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Let the norms of a network use the statistics of a group for a `with`.

    They are used in evaluation mode only. None lends nothing: the running statistics stay.

    Args:
        model: The network.
        statistics: From `collect_statistics` of this network.

    Raises:
        WeightsError: They are of another network.
    """

    def __init__(self, model: nn.Module, statistics: NormStatistics | None) -> None:
        self._lent: list[tuple[_BatchNorm, dict[str, Tensor]]] = []
        self._kept: list[tuple[_BatchNorm, str, Tensor]] = []
        if statistics is None:
            return
        for name, norm in batch_norm_layers(model).items():
            buffers = {"running_mean": f"{name}.mean", "running_var": f"{name}.variance"}
            for key in buffers.values():
                if key not in statistics or statistics[key].shape != (norm.num_features,):
                    found = tuple(statistics[key].shape) if key in statistics else "nothing"
                    raise WeightsError(
                        f"The norm statistics do not fit the network: expected ({norm.num_features},) of {key}, found "
                        f"{found}. {did_you_mean(key, statistics)} Collect them again with this network."
                    )
            self._lent.append((norm, {buffer: statistics[key] for buffer, key in buffers.items()}))

    def __enter__(self) -> None:
        """Put the group's statistics in place of the running ones."""
        for norm, buffers in self._lent:
            for buffer, lent in buffers.items():
                own = getattr(norm, buffer)
                self._kept.append((norm, buffer, own))
                setattr(norm, buffer, lent.to(own, copy=True))

    def __exit__(self, *raised: object) -> None:
        """Put the running statistics back, bit for bit."""
        for norm, buffer, own in self._kept:
            setattr(norm, buffer, own)
        self._kept = []


def batch_norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms of a network by name, also those of the neck."""
    return {name: part for name, part in model.named_modules() if isinstance(part, _BatchNorm)}


def _pooled_features(model: PerturbationClassifier, pieces: Pieces) -> tuple[list[Tensor], list[Tensor]]:
    pooled, cell_types = [], []
    for images, kinds in pieces():
        pooled.append(model.pool(model.feature_maps(images)))
        if kinds is not None:
            cell_types.append(kinds)
    return pooled, cell_types


@contextlib.contextmanager
def _measured(
    part: nn.Module, contrast: NormStatistics | None = None, *, prefix: str = "", sets: bool = True
) -> Iterator[dict[str, _Pooled]]:
    """Pool what every norm of a part is given; when `sets`, let it normalise each piece by that piece.

    The buffers of the norms are replaced then: lend them something first, inside.
    """
    found = {f"{prefix}{name}": _Pooled() for name in batch_norm_layers(part)}
    with contextlib.ExitStack() as hooks:
        for name, norm in batch_norm_layers(part).items():
            key = f"{prefix}{name}"
            hooks.callback(norm.register_forward_pre_hook(_measure(key, found[key], contrast, sets=sets)).remove)
        yield found


def _measure(
    name: str, pooled: _Pooled, contrast: NormStatistics | None, *, sets: bool
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = pooled.add(inputs[0])
        if sets:
            norm.running_mean, norm.running_var = _of_plate(name, mean, variance, contrast)

    return before_norm


def _of_plate(name: str, mean: Tensor, variance: Tensor, contrast: NormStatistics | None) -> tuple[Tensor, Tensor]:
    """Turn the statistics of controls into those of their plate."""
    if contrast is None:
        return mean, variance
    shift, ratio, least = (contrast[f"{name}.{key}"].to(mean) for key in ("shift", "ratio", "least"))
    variance = (variance * ratio.exp()).maximum(least)
    return mean + shift * (variance + EPSILON).sqrt(), variance


def _statistics(found: Mapping[str, _Pooled], contrast: NormStatistics | None = None) -> dict[str, Tensor]:
    said: dict[str, Tensor] = {}
    for name, moments in found.items():
        mean, variance = _of_plate(name, moments.mean.float(), moments.variance.float(), contrast)
        said |= {f"{name}.mean": mean, f"{name}.variance": variance}
    return said


def _running(model: nn.Module) -> dict[str, Tensor]:
    said: dict[str, Tensor] = {}
    for name, norm in batch_norm_layers(model).items():
        if norm.running_mean is not None and norm.running_var is not None:
            said |= {f"{name}.mean": norm.running_mean, f"{name}.variance": norm.running_var}
    return said
