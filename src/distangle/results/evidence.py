"""Results behind an explanation: benchmark, faithfulness, filters, templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from distangle.core.io import atomic_write, write_json
from distangle.core.result_files import Kinds, read_arrays, read_result_json, read_table, rebuild_hint, write_arrays
from distangle.core.untrusted_files import check_type, read_regular_file
from distangle.errors import RunError

BENCHMARK_FILE = "benchmark.json"
_BENCHMARK_KINDS = {"settings": dict, "aims": list, "rows": list}
_FAITHFULNESS_KINDS = {"settings": dict, "summary": dict, "sentences": list, "sites": list}
_FAITHFULNESS_FILES = ("faithfulness.json", "faithfulness.npz")
_FILTER_FILES = ("filters.json", "filters.safetensors")
_FILTER_KINDS: Kinds = {
    **dict.fromkeys(("stored_layers", "sentences", "prune", "layers"), list),
    "claim": (dict, type(None)),
    "settings": dict,
}
_TEMPLATE_FILES = ("templates.parquet", "embeddings.parquet", "templates.json")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Hit rates of attribution methods on planted truth.

    Attributes:
        rows: One per network, question, method and unit, with `network` (`trained` or `untrained`), `question`
            (`channel` or `region`), `method`, `unit` (`wells` or `sites`), `hits`, `n_total`, `share` with its 95 %
            interval over wells, `low` to `high`, `chance`, `swapped` (hits of the same method's scores or maps of other
            sites) and, for places, `layer`, `mass` (mean share of the map inside the place)
            and `area`. An untrained network's counts are means over several, so hits may be a fraction.
        aims: Targets of the benchmark: `aim`, `method`, `value`, `limit`, `met` (None if nothing could be counted).
        settings: Settings of the benchmark.
    """

    rows: Sequence[Mapping[str, Any]]
    aims: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]

    def write(self, folder: Path) -> list[Path]:
        """Write `benchmark.json`; return its path."""
        path = folder / BENCHMARK_FILE
        write_json(
            path,
            {
                "settings": dict(self.settings),
                "aims": [dict(aim) for aim in self.aims],
                "rows": [dict(row) for row in self.rows],
            },
        )
        return [path]

    @classmethod
    def read(cls, folder: Path) -> "Benchmark":
        """Read what `write` wrote.

        Raises:
            RunError: The run's explanations have not been benchmarked.
        """
        return cls(
            **read_result_json(folder / BENCHMARK_FILE, title="benchmark", flags=" --benchmark", kinds=_BENCHMARK_KINDS)
        )


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Results of the faithfulness tests of attribution maps.

    Attributes:
        table: One row per examined site: `row` (its position in the explanation) and `deletion_auc`, `insertion_auc`,
            `deletion_p`, `insertion_p`, `stability`, `after_randomization`, `other_targets`; NaN where a test was not
            run for the site.
        arrays: Curves [site, step] as `curves/REPLACEMENT/deletion`, `.../insertion` and `.../random` (probability),
            and the first sites' maps of the network and of untrained ones, in [0, 1], as `maps/trained`,
            `maps/untrained/STAGE`; the sites of both are the first of the table.
        settings: Settings of the tests, and the number of sites.
        summary: Numbers and a verdict per test, for the report.
        sentences: The verdicts as sentences.
    """

    table: pd.DataFrame
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    sentences: tuple[str, ...]

    def columns(self, n_rows: int) -> pd.DataFrame:
        """Return the table with a row per row of an explanation.

        Rows of sites that were not tested are NaN.

        Args:
            n_rows: Number of rows of the explanation.

        Raises:
            RunError: The table has a row that the explanation lacks.
        """
        unknown_rows = [int(row) for row in self.table["row"] if not 0 <= row < n_rows]
        if unknown_rows:
            raise RunError(
                f"Row {unknown_rows[0]} was tested, but the explanation has {n_rows} rows. Explain the run again."
            )
        return self.table.set_index("row").reindex(range(n_rows)).rename_axis(None)

    def write(self, folder: Path) -> list[Path]:
        """Write `faithfulness.json` and `faithfulness.npz`; return the paths."""
        json_file, arrays_file = (folder / name for name in _FAITHFULNESS_FILES)
        contents = {name: np.asarray(values, dtype=np.float32) for name, values in self.arrays.items()}
        write_arrays(arrays_file, contents)
        sites = self.table.astype(object).where(self.table.notna(), None).to_dict(orient="records")
        write_json(
            json_file,
            {
                "settings": dict(self.settings),
                "summary": dict(self.summary),
                "sentences": list(self.sentences),
                "sites": sites,
            },
        )
        return [json_file, arrays_file]

    @staticmethod
    def remove(folder: Path) -> list[Path]:
        """Remove the files that `write` wrote; return their paths."""
        paths = [folder / name for name in _FAITHFULNESS_FILES]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    @classmethod
    def read(cls, folder: Path) -> "Faithfulness":
        """Read what `write` wrote.

        Raises:
            RunError: The maps of the run have not been tested yet.
        """
        json_file, arrays_file = (folder / name for name in _FAITHFULNESS_FILES)
        values, fix = (
            read_result_json(json_file, title="examined maps", kinds=_FAITHFULNESS_KINDS),
            rebuild_hint(folder),
        )
        with read_regular_file(json_file, fix=fix):
            table = pd.DataFrame(values.pop("sites"))
            number_columns = table.columns.drop("row")
            table = table.astype({"row": "int64", **dict.fromkeys(number_columns, "float64")})
            sentences = tuple(check_type(sentence, str, name="sentences") for sentence in values.pop("sentences"))
        return cls(table=table, arrays=read_arrays(arrays_file, fix=fix), sentences=sentences, **values)


@dataclass(frozen=True, kw_only=True)
class FilterAnalysis:
    """Filters of a few layers, and statistics of all layers.

    Attributes:
        weights: float32 [filter, input] by `LAYER|printed`, and by `LAYER|gamma` where a norm stands before the layer.
        stored_layers: Names of the layers that `weights` covers.
        layers: One entry per layer and kind of weights: `layer`, `weights` (`printed` | `gamma` | `gamma_over_sd`),
            `filters`, `inputs`, `dense`, and by number of bands and blocks `value` with the nulls `shuffled` and
            `initial`.
        claim: The two layers of Fig. 10 among all dense layers: `layers`, `of`, and `rank` by number; None where the
            network has no dense layers.
        prune: Accuracy after pruning filters; empty if not measured.
        settings: Thresholds and number of random draws.
        sentences: The results as sentences.
    """

    weights: Mapping[str, np.ndarray]
    stored_layers: Sequence[str]
    layers: Sequence[Mapping[str, Any]]
    claim: Mapping[str, Any] | None
    prune: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    sentences: Sequence[str]

    def write(self, folder: Path) -> list[Path]:
        """Write `filters.json` and `filters.safetensors`; return the paths."""
        json_file, weights = (folder / name for name in _FILTER_FILES)
        with atomic_write(weights) as temporary:
            save_file(
                {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in self.weights.items()}, temporary
            )
        write_json(
            json_file,
            {
                "stored_layers": list(self.stored_layers),
                "sentences": list(self.sentences),
                "claim": self.claim,
                "prune": list(self.prune),
                "settings": dict(self.settings),
                "layers": list(self.layers),
            },
        )
        return [json_file, weights]

    @classmethod
    def read(cls, folder: Path) -> "FilterAnalysis":
        """Read what `write` wrote.

        Raises:
            RunError: The filters of the run have not been analyzed yet.
        """
        path, weights = (folder / name for name in _FILTER_FILES)
        values = read_result_json(path, title="filters", kinds=_FILTER_KINDS)
        with read_regular_file(weights, fix=rebuild_hint(folder)):
            arrays = load_file(weights)
        return cls(**values, weights=arrays)


@dataclass(frozen=True, kw_only=True)
class TemplateComparison:
    """Templates (class weight vectors) of one or two runs, and embeddings.

    Attributes:
        templates: One row per run, head and output: `run`, `head` (`softmax` | `arc`), `output` (from 0),
            `perturbation`, `training_wells`, `unused` (no training well has it), `norm`, `bias` (softmax, else NaN),
            `nearest_angle_deg` and `nearest` (the nearest template of the same run and head), `nearest_alike_angle_deg`
            (of the trained ones for a trained one, of unused for unused; NaN if there is none), `mean_cosine` (to
            all others), and `NAME_x`, `NAME_y` for every map.
        embeddings: One row per run and held-out site of the chosen perturbations: `run`, `Metadata_*`,
            `perturbation`, `predicted`, `silhouette`, and `NAME_x`, `NAME_y` for every map.
        maps: The projections: `of` (`templates` | `embeddings`), `name`, `method`, `seed`, `neighbors`,
            `trustworthiness` over all points, and `trustworthiness_of` each set by `RUN, HEAD` or `RUN`.
        numbers: Statistics of the full space, for JSON: `runs`, `templates`, `unused`, `embeddings`, `perturbations`,
            `settings`, `sentences`.
    """

    templates: pd.DataFrame
    embeddings: pd.DataFrame
    maps: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, Any]

    def write(self, folder: Path) -> list[Path]:
        """Write two Parquet tables and `templates.json`; return the paths."""
        templates, embeddings, json_file = (folder / name for name in _TEMPLATE_FILES)
        for path, table in ((templates, self.templates), (embeddings, self.embeddings)):
            with atomic_write(path) as temporary:
                table.to_parquet(temporary, index=False)
        write_json(json_file, {"numbers": dict(self.numbers), "maps": [dict(projection) for projection in self.maps]})
        return [templates, embeddings, json_file]

    @classmethod
    def read(cls, folder: Path) -> "TemplateComparison":
        """Read what `write` wrote.

        Raises:
            RunError: The templates of the run have not been compared yet.
        """
        templates, embeddings, path = (folder / name for name in _TEMPLATE_FILES)
        values, fix = (
            read_result_json(path, title="templates", kinds={"numbers": dict, "maps": list}),
            rebuild_hint(folder),
        )
        return cls(templates=read_table(templates, fix=fix), embeddings=read_table(embeddings, fix=fix), **values)
