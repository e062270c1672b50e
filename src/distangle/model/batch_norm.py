"""Collect batch-norm statistics of a group of images, and normalize by them."""

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
"""`NAME.mean` and `NAME.variance`, float32 [feature], of every batch norm, by its name in the network."""

EPSILON = 1e-5  # added to a variance, as in the batch norms

ImageBatches = Callable[[], Iterable[tuple[Images, CellTypes | None]]]


@dataclass
class _Moments:
    """Mean and variance over all batches, combined by the law of total variance."""

    n: float = 0.0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    variance: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Add the input of a batch norm; return its own mean and variance, float32."""
        axes = [axis for axis in range(maps.ndim) if axis != 1]
        variance, mean = torch.var_mean(maps.float(), axes, correction=0)
        n = maps.numel() / maps.shape[1]
        share, difference = n / (self.n + n), mean.double() - self.mean.to(mean.device)
        old_variance = self.variance.to(mean.device)
        self.variance = (
            (1 - share) * old_variance + share * variance.double() + share * (1 - share) * difference.square()
        )
        self.mean = self.mean.to(mean.device) + share * difference
        self.n += n
        return mean, variance


def collect_statistics(
    model: PerturbationClassifier, batches: ImageBatches, *, contrast: NormStatistics | None = None
) -> NormStatistics:
    """Collect the statistics of every batch norm over a group of images.

    The network normalizes the group by these statistics while it collects them, so each layer is measured after
    layers that already use the statistics of the group. For one batch this is exact: evaluation with the result
    equals a forward pass in training mode over the whole group. With several batches, the backbone normalizes each
    batch by its own statistics, as it normalizes batches of one plate in training, and the moments are pooled. The
    neck sees one value per image and feature and is more sensitive, so it is then measured over the whole group at
    once, on the features of that backbone.

    Source: Li et al. 2016, Revisiting batch normalization for practical domain adaptation (arXiv:1603.04779).
    Departs: variances are those of the group (divided by n), as a batch is normalized in training;
        running statistics divide by n - 1.

    Args:
        model: Its mode and buffers are restored.
        batches: Returns the standardized images in batches of at least two; called twice if there are several.
        contrast: From `collect_contrast`: the images are negative controls, and the result estimates the statistics
            of their whole plate. None: the images are the group.

    Raises:
        ValueError: There is no batch.
    """
    running = _running_statistics(model)
    with eval_mode(model), torch.no_grad():
        with _record_moments(model.backbone, contrast, prefix="backbone.") as moments, use_statistics(model, running):
            features, cell_types = _pool_features(model, batches)
        if len(features) == 0:
            raise ValueError(
                "The group has no images; its batch-norm statistics need at least one batch of two images."
            )
        backbone = _as_statistics(moments, contrast)
        if len(features) > 1:
            with use_statistics(model, {**running, **backbone}):
                features, cell_types = _pool_features(model, batches)
        with _record_moments(model.neck, contrast, prefix="neck.") as moments, use_statistics(model, running):
            model.classify(torch.cat(features), torch.cat(cell_types) if cell_types else None)
    return {**backbone, **_as_statistics(moments, contrast)}


def collect_contrast(
    model: PerturbationClassifier, groups: Iterable[tuple[ImageBatches, ImageBatches]]
) -> NormStatistics:
    r"""Compare the statistics of whole plates with those of their negative controls.

    In training, and with `batch_norm.statistics=plate`, the images of a plate are normalized by the statistics of
    the whole plate, $(\mu_a, \sigma_a^2)$. In a network normalized so, the controls alone have $(\mu_c, \sigma_c^2)$
    at every batch norm. The treatments add about the same on every plate. The means over the training plates,

    $$ d = \overline{(\mu_a - \mu_c) / \sigma_a}, \qquad r = \overline{\log(\sigma_a^2 / \sigma_c^2)} $$

    turn the statistics of another plate's controls into those that the plate would have with the training treatments:
    $\sigma^2 = e^r \sigma_c^2$, $\mu = \mu_c + d \sigma$. The result depends on no treatment of that plate.

    Source: after Lin and Lu 2022, Incorporating knowledge of plates in batch normalization improves generalization of
        deep learning for microscopy images (PMLR 200), who normalize by the plate in training and at test time.
    Departs: theirs uses all images of a plate, and fails where test plates carry other treatments. A variance
        is at least a tenth of its mean over the training plates; otherwise a feature that is constant in a few
        controls would be amplified without bound.

    Args:
        model: Its mode and buffers are restored.
        groups: For each training plate, the batches of all its images and of its controls.

    Raises:
        ValueError: There is no group.
    """
    sums: dict[str, Tensor] = {}
    n = 0
    for all_batches, control_batches in groups:
        n += 1
        plate = collect_statistics(model, all_batches)
        with (
            eval_mode(model),
            torch.no_grad(),
            _record_moments(model, normalize=False) as moments,
            use_statistics(model, plate),
        ):
            for images, cell_types in control_batches():
                model(images, cell_types)
        of_controls = _as_statistics(moments)
        for name in moments:
            mean, variance = plate[f"{name}.mean"].double(), plate[f"{name}.variance"].double()
            plate_variance, control_variance = variance + EPSILON, of_controls[f"{name}.variance"].double() + EPSILON
            terms = {
                f"{name}.shift": (mean - of_controls[f"{name}.mean"].double()) / plate_variance.sqrt(),
                f"{name}.ratio": (plate_variance / control_variance).log(),
                f"{name}.least": 0.1 * variance,
            }
            sums |= {key: value + sums.get(key, 0) for key, value in terms.items()}
    if n == 0:
        raise ValueError(
            "A contrast between plates and their controls needs at least one training plate; none was passed."
        )
    return {key: (value / n).float() for key, value in sums.items()}


class use_statistics(contextlib.AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Make the batch norms of a network use the statistics of a group for a `with`.

    Only evaluation mode uses them.

    Args:
        model: The network.
        statistics: From `collect_statistics` of this network; None keeps the running statistics.

    Raises:
        WeightsError: The statistics belong to another network.
    """

    def __init__(self, model: nn.Module, statistics: NormStatistics | None) -> None:
        self._replacements: list[tuple[_BatchNorm, dict[str, Tensor]]] = []
        self._originals: list[tuple[_BatchNorm, str, Tensor]] = []
        if statistics is None:
            return
        for name, norm in batch_norm_layers(model).items():
            buffers = {"running_mean": f"{name}.mean", "running_var": f"{name}.variance"}
            for key in buffers.values():
                if key not in statistics or statistics[key].shape != (norm.num_features,):
                    state = f"has shape {tuple(statistics[key].shape)}" if key in statistics else "is missing"
                    raise WeightsError(
                        f"The batch-norm statistics do not fit the network: {key} {state}, expected "
                        f"({norm.num_features},). {did_you_mean(key, statistics)} Collect them again with this network."
                    )
            self._replacements.append((norm, {buffer: statistics[key] for buffer, key in buffers.items()}))

    def __enter__(self) -> None:
        """Replace the running statistics by those of the group."""
        for norm, buffers in self._replacements:
            for buffer, value in buffers.items():
                original = getattr(norm, buffer)
                self._originals.append((norm, buffer, original))
                setattr(norm, buffer, value.to(original, copy=True))

    def __exit__(self, *error: object) -> None:
        """Restore the running statistics, bit for bit."""
        for norm, buffer, original in self._originals:
            setattr(norm, buffer, original)
        self._originals = []


def batch_norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return all batch norms of a network by name, those of the neck included."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def _pool_features(model: PerturbationClassifier, batches: ImageBatches) -> tuple[list[Tensor], list[Tensor]]:
    features, cell_types = [], []
    for images, types in batches():
        features.append(model.pool(model.feature_maps(images)))
        if types is not None:
            cell_types.append(types)
    return features, cell_types


@contextlib.contextmanager
def _record_moments(
    module: nn.Module, contrast: NormStatistics | None = None, *, prefix: str = "", normalize: bool = True
) -> Iterator[dict[str, _Moments]]:
    """Record the moments of the inputs of every batch norm of a module.

    With `normalize`, each batch is also normalized by its own statistics. This overwrites the buffers of the batch
    norms: enter `use_statistics` inside, which restores them.
    """
    moments = {f"{prefix}{name}": _Moments() for name in batch_norm_layers(module)}
    with contextlib.ExitStack() as hooks:
        for name, norm in batch_norm_layers(module).items():
            key = f"{prefix}{name}"
            hooks.callback(
                norm.register_forward_pre_hook(_moments_hook(key, moments[key], contrast, normalize=normalize)).remove
            )
        yield moments


def _moments_hook(
    name: str, moments: _Moments, contrast: NormStatistics | None, *, normalize: bool
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = moments.add(inputs[0])
        if normalize:
            norm.running_mean, norm.running_var = _plate_from_controls(name, mean, variance, contrast)

    return before_norm


def _plate_from_controls(
    name: str, mean: Tensor, variance: Tensor, contrast: NormStatistics | None
) -> tuple[Tensor, Tensor]:
    """Turn statistics of controls into those of their whole plate."""
    if contrast is None:
        return mean, variance
    shift, ratio, floor = (contrast[f"{name}.{key}"].to(mean) for key in ("shift", "ratio", "least"))
    variance = (variance * ratio.exp()).maximum(floor)
    return mean + shift * (variance + EPSILON).sqrt(), variance


def _as_statistics(moments: Mapping[str, _Moments], contrast: NormStatistics | None = None) -> dict[str, Tensor]:
    statistics: dict[str, Tensor] = {}
    for name, pooled in moments.items():
        mean, variance = _plate_from_controls(name, pooled.mean.float(), pooled.variance.float(), contrast)
        statistics |= {f"{name}.mean": mean, f"{name}.variance": variance}
    return statistics


def _running_statistics(model: nn.Module) -> dict[str, Tensor]:
    statistics: dict[str, Tensor] = {}
    for name, norm in batch_norm_layers(model).items():
        if norm.running_mean is not None and norm.running_var is not None:
            statistics |= {f"{name}.mean": norm.running_mean, f"{name}.variance": norm.running_var}
    return statistics
