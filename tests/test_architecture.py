"""Structure: imports only point down, files stay small, names are plain, and unsafe calls are absent."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "distangle"

# A package imports only from layers below its own. Packages of one layer do not import each other.
LAYERS = [
    {"axes", "errors", "network_settings"},
    {"core"},
    {"screen"},
    {"results"},
    {"images", "synthetic"},
    {"model", "losses"},
    {"training", "inference"},
    {"profiles"},
    {"explain", "export"},
    {"report"},
    {"demo", "ablation", "web", "plot"},
    {"cli"},
]
NO_TORCH = [
    "screen",
    "results",
    "images",
    "synthetic",
    "profiles",
    "report",
    "cli",
    "errors",
    "network_settings",
    "training.config",
    *(f"core.{path.stem}" for path in sorted((SOURCE / "core").glob("[a-z]*.py")) if path.stem != "distributed"),
]
MAX_LINES = 400  # of a file; longer files are listed with their reason
LONGER_FOR_A_REASON: dict[str, str] = {}


def layer_of(package: str) -> int:
    return next(number for number, packages in enumerate(LAYERS) if package in packages)


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "cli" if first == "__main__" else first


def imported_packages(path: Path) -> list[tuple[str, int]]:
    problems = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer; write the whole name"
            names = [node.module or ""]
            if node.module == "distangle":
                names = [f"distangle.{alias.name}" for alias in node.names]
        problems += [(name.split(".")[1], node.lineno) for name in names if name.startswith("distangle.")]
    return [(package, line) for package, line in problems if not package.startswith("__")]


def complaint(path: Path, package: str, line: int) -> str | None:
    own = package_of(path)
    if package == own or own == "__init__":
        return None
    if layer_of(package) < layer_of(own):
        return None
    return (
        f"{path.relative_to(SOURCE)}:{line} (layer {layer_of(own)}) imports {package} (layer {layer_of(package)}): "
        f"move the shared part down, or pass it in as an argument"
    )


def test_every_package_has_a_layer() -> None:
    knowns = set().union(*LAYERS)
    assert {package_of(path) for path in modules()} - {"__init__"} <= knowns


def test_imports_only_point_down() -> None:
    complaints = [complaint(path, package, line) for path in modules() for package, line in imported_packages(path)]
    assert [text for text in complaints if text] == []


def test_an_upward_import_would_be_named(tmp_path: Path) -> None:
    assert complaint(SOURCE / "losses" / "arc_margin.py", "explain", 3) is not None
    assert complaint(SOURCE / "training" / "loop.py", "inference", 3) is not None
    assert complaint(SOURCE / "training" / "loop.py", "losses", 3) is None


def test_no_circle_inside_a_package() -> None:
    names = {
        ".".join(("distangle", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in modules()
    }
    edges: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distangle."):
                imported_modules = {f"{node.module}.{alias.name}" for alias in node.names}
                edges[name] |= (imported_modules & set(names)) or {node.module or ""}
    visited: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle of imports: {' -> '.join((*above, name))}"
        if name in visited:
            return
        for below in sorted(edges.get(name, ())):
            visit(below, (*above, name))
        visited.add(name)

    for name in edges:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_package_stays_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    name = path.relative_to(SOURCE).as_posix()
    assert lines <= MAX_LINES or name in LONGER_FOR_A_REASON, (
        f"{name} has {lines} lines; split it, or add it to LONGER_FOR_A_REASON"
    )


def test_packages_without_torch_load_no_torch() -> None:
    imports = "; ".join(f"import distangle.{package}" for package in NO_TORCH)
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == "False"


def test_every_package_says_its_duty_in_one_sentence_and_names_what_it_offers() -> None:
    for path in SOURCE.glob("*/__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree)
        assert docstring, f"{path} has no docstring"
        assert len(docstring.split("\n\n")[0].splitlines()) <= 2, f"{path}: one sentence"


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
FORBIDDEN_ATTRIBUTES = {("yaml", "load"), ("os", "system"), ("tarfile", "extractall")}
TORCH_LOAD = {"model/pretrained.py"}  # the one reader of published weights, with weights_only=True


def unsafe(path: Path, tree: ast.AST) -> list[str]:
    name = path.relative_to(SOURCE).as_posix()
    problems = []
    for node in ast.walk(tree):
        only_the_error = isinstance(node, ast.ImportFrom) and [a.name for a in node.names] == ["UnpicklingError"]
        if isinstance(node, ast.Import | ast.ImportFrom) and not (name in TORCH_LOAD and only_the_error):
            module_names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            problems += [
                f"{name}:{node.lineno} imports {word}"
                for word in module_names
                if word.split(".")[0] in FORBIDDEN_MODULES
            ]
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            problems.append(f"{name}:{node.lineno} calls {node.func.id}")
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            pair = (node.func.value.id, node.func.attr)
            weights_only = keywords.get("weights_only")
            safe = isinstance(weights_only, ast.Constant) and weights_only.value is True
            if pair in FORBIDDEN_ATTRIBUTES or (pair == ("torch", "load") and not (name in TORCH_LOAD and safe)):
                problems.append(f"{name}:{node.lineno} calls {'.'.join(pair)}")
        for word in ("allow_pickle", "shell"):
            value = keywords.get(word)
            if isinstance(value, ast.Constant) and value.value is True:
                problems.append(f"{name}:{node.lineno} passes {word}=True")
    return problems


def test_nothing_is_unpickled_or_run_from_text() -> None:
    problems = [problem for path in modules() for problem in unsafe(path, ast.parse(path.read_text(encoding="utf-8")))]
    assert problems == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "torch.load('x')", "torch.load('x', weights_only=False)", "np.load('x', allow_pickle=True)"],
)
def test_an_unsafe_line_would_be_found(line: str) -> None:
    assert unsafe(SOURCE / "model" / "weights.py", ast.parse(line))


# Names: modules and classes are nouns of the field. An adjective before a noun (`shared_layouts`) is one.
PARTICIPLES = {"asked", "begun", "chosen", "drawn", "found", "given", "held", "hidden", "kept", "known", "lent"} | {
    "made",
    "met",
    "said",
    "seen",
    "shown",
    "taken",
    "told",
}
NOUNS_IN_ED = {"speed", "seed", "embed", "need", "feed", "bed"}
FIELD_TERMS = {"distributed", "semi_supervised", "pretrained"}  # torch.distributed, semi-supervised, pretrained weights
EMPTY_WORDS = {"words", "utils", "util", "helpers", "misc", "common_code", "stuff", "tools"}


def is_participle(word: str) -> bool:
    return word in PARTICIPLES or (word.endswith("ed") and word not in NOUNS_IN_ED)


def is_vague(stem: str) -> bool:
    return is_participle(words_of(stem)[-1]) or stem in EMPTY_WORDS


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def public_classes() -> list[tuple[str, Path]]:
    return [
        (node.name, path)
        for path in modules()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]


def test_no_module_is_named_by_a_participle_or_an_empty_word() -> None:
    stems = [path.stem for path in modules() if not path.stem.startswith("__")]
    assert [stem for stem in stems if stem not in FIELD_TERMS and is_vague(stem)] == []


def test_no_class_is_named_by_a_participle() -> None:
    assert [name for name, _ in public_classes() if is_participle(words_of(name)[-1])] == []


def test_no_two_public_classes_have_one_name() -> None:
    paths: dict[str, list[str]] = {}
    for name, path in public_classes():
        if not name.startswith("_"):
            paths.setdefault(name, []).append(path.relative_to(SOURCE).as_posix())
    assert {name: files for name, files in paths.items() if len(files) > 1} == {}


@pytest.mark.parametrize("word", ["asked", "opened", "Given", "LookedAt", "words", "hidden"])
def test_a_private_language_would_be_found(word: str) -> None:
    last = words_of(word)[-1]
    assert is_participle(last) or word in EMPTY_WORDS or any(is_participle(part) for part in words_of(word))


def docstring_summaries(path: Path) -> list[tuple[str, str]]:
    """Return name and first docstring line of the module and of every public class and function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    pairs = [(node.name, ast.get_docstring(node)) for node in nodes if not node.name.startswith("_")]
    return [(name, text.split("\n")[0]) for name, text in [("module", ast.get_docstring(tree)), *pairs] if text]


def test_docstring_summaries_have_under_80_characters() -> None:
    long = [
        f"{path.relative_to(SOURCE)}: {name}: {line}"
        for path in modules()
        for name, line in docstring_summaries(path)
        if len(line) >= 80
    ]
    assert long == []
