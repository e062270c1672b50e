"""Any table with a row per site: which column is what can be named or is found by itself."""

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from distangle.errors import ScreenError, nearest
from distangle.screen.channel import named_channels
from distangle.screen.delimited import Delimited, read_delimited
from distangle.screen.entry import Entry, Found, Request
from distangle.screen.perturbation import ROLE_WORDS, Role, role_of
from distangle.screen.problems import Problem
from distangle.screen.table import SITE_COLUMNS

OURS = ("experiment", "plate", "well", "site", "cell_type", "perturbation", "role", "split")

_TAKEN = re.compile(r"(path|page)_[0-9]+|size|mtime|sha256|fold")
_IMAGE = re.compile(r"[^.].*\.(png|tiff?)", re.IGNORECASE | re.DOTALL)


def find_table(request: Request) -> Found:
    """Find the sites that the rows of one table name.

    The source is the table, or the folder its paths start from with one table in it or named by `tables`.
    Our columns are found by name, case aside, with or without `Metadata_` before it; `mapping` names others.
    A mapping to "" says that the table has no such column.

    Raises:
        ScreenError: No single table, or an option that names no column, no role or no perturbation.
    """
    source, path = _locate(request)
    table = read_delimited(path)
    column_of = resolve_columns(table, request.mapping)
    names, path_columns = _channels(table, request)
    used = {*column_of.values(), *path_columns}
    extra = tuple(name for name in table.columns if name not in used)
    reader = _Rows(table, column_of=column_of, path_columns=path_columns, extra=extra, request=request, source=source)
    problems = table.ragged_problems()
    rows = [reader.read(line, fields) for line, fields in zip(table.lines, table.rows, strict=True)]
    entries = [entry for entry, problem in rows if problem is None]
    problems += [problem for _, problem in rows if problem is not None]
    _apply_controls(entries, request.controls)
    if not request.tables_only:
        problems += _unnamed_images(source, [entry for entry, _ in rows])
    if "site" in column_of:
        hint = f"Column {column_of['site']!r} must tell the sites of a well apart."
    else:
        hint = "If they are sites of one well, name the column that tells them apart: --map site=COLUMN."
    return Found(
        source=source,
        channels=named_channels(names),
        entries=entries,
        problems=problems,
        found=table.n_rows,
        extra_columns=_renamed(extra),
        tables=(path,),
        site_hint=hint,
        notes={"columns": dict(column_of), "path_columns": list(path_columns)},
    )


def resolve_columns(table: Delimited, mapping: Mapping[str, str]) -> dict[str, str]:
    """Return which of the table's columns is which of ours.

    Raises:
        ScreenError: A name that neither we nor the table knows, two candidates, or no plate, well or
            perturbation.
    """
    for ours, theirs in mapping.items():
        if ours not in OURS:
            message = f"--map {ours}={theirs}: we have no column {ours!r}. {nearest(ours, OURS)}"
            raise ScreenError(message)
        if theirs and theirs not in table.columns:
            message = f"--map {ours}={theirs}: {table.path} has no column {theirs!r}. "
            message += nearest(theirs, table.columns)
            raise ScreenError(message)
    column_of: dict[str, str] = {}
    free = [name for name in table.columns if name not in mapping.values()]
    for ours in OURS:
        theirs = mapping[ours] if ours in mapping else _by_itself(ours, free, table)
        if theirs:
            column_of[ours] = theirs
    wanted = ("plate", "well", *(() if mapping.get("perturbation") == "" else ("perturbation",)))
    missing = [name for name in wanted if name not in column_of]
    if missing:
        example = " ".join(f"--map {name}=COLUMN" for name in missing)
        message = f"{table.path} has no column {' and no column '.join(map(repr, missing))}. "
        message += f"{nearest(missing[0], table.columns)} Say which it is: {example}"
        message += " (--map perturbation= says that there is none)." if "perturbation" in missing else "."
        raise ScreenError(message)
    return column_of


def _by_itself(ours: str, columns: Sequence[str], table: Delimited) -> str:
    def plain(name: str) -> str:
        return re.sub(r"[_\s-]", "", name.lower())

    for wanted in (ours, f"Metadata_{ours}"):
        exact = [name for name in columns if name == wanted]
        close = exact or [name for name in columns if plain(name) == plain(wanted)]
        if len(close) > 1:
            message = f"{table.path}: {' and '.join(map(repr, close))} may both be {ours!r}. "
            message += f"Say which: --map {ours}=COLUMN."
            raise ScreenError(message)
        if close:
            return close[0]
    return ""


def _locate(request: Request) -> tuple[Path, Path]:
    source, tables = request.source, request.tables
    if not source.exists():
        message = f"{source} does not exist. Expected a table, or the folder that its paths start from."
        raise ScreenError(message)
    if source.is_file():
        if tables is not None:
            message = f"{source} is a table and {tables} is named as another. Name the folder as source."
            raise ScreenError(message)
        return source.parent, source
    place = tables or source
    if place.is_file():
        return source, place
    if not place.is_dir():
        message = f"{place} does not exist. Expected a table, or a folder with one."
        raise ScreenError(message)
    there = sorted(item for item in place.iterdir() if item.suffix.lower() in {".csv", ".tsv"} and item.is_file())
    if len(there) != 1:
        listed = f"several tables: {', '.join(item.name for item in there)}" if there else "no .csv or .tsv"
        message = f"{place} holds {listed}. Name the table: --tables FILE."
        raise ScreenError(message)
    return source, there[0]


def _channels(table: Delimited, request: Request) -> tuple[list[str], list[str]]:
    """Return the names of the channels and the columns with their paths (one only, for pages of a file)."""
    parts = [item.split("=", 1) for item in request.channels]
    names = [part[0].strip() for part in parts]
    columns = [part[-1].strip() for part in parts]
    if "" in names or len(set(names)) < len(names):
        message = f"--channels {','.join(request.channels)}: every channel needs a name of its own."
        raise ScreenError(message)
    if request.tables_only:
        return names, [name for name in (request.pages, *columns) if name in table.columns]
    if not names:
        sample = dict(zip(table.columns, table.rows[0], strict=True)) if table.rows else {}
        likely = [name for name, value in sample.items() if _IMAGE.fullmatch(value)]
        message = f"Which columns of {table.path} hold the images? Name them: --channels "
        message += f"{','.join(likely) or 'COLUMN,COLUMN'} (or NAME=COLUMN), --pages COLUMN for files of many pages, "
        message += "--tables-only to look for no image."
        raise ScreenError(message)
    if request.pages is not None:
        columns = [request.pages]
    for column in columns:
        if column not in table.columns:
            message = f"{table.path} has no column {column!r} with paths of images. {nearest(column, table.columns)}"
            raise ScreenError(message)
    return names, columns


class _Rows:
    """Makes an entry of every row of one table."""

    def __init__(
        self,
        table: Delimited,
        *,
        column_of: Mapping[str, str],
        path_columns: Sequence[str],
        extra: Sequence[str],
        request: Request,
        source: Path,
    ) -> None:
        self._table = table.path.name
        self._ours = {name: table.position(column) for name, column in column_of.items()}
        self._paths = [] if request.tables_only else [table.position(name) for name in path_columns]
        self._extra = [table.position(name) for name in extra]
        self._names = [item.split("=", 1)[0].strip() for item in request.channels]
        self._has_pages = request.pages is not None
        self._default_site = 0 if request.tables_only else 1
        self._roots = {source.absolute().as_posix(), source.resolve().as_posix()}

    def read(self, line: int, fields: tuple[str, ...]) -> tuple[Entry, Problem | None]:
        """Return the entry of a row, and why it is refused, if it is."""
        ours = {name: fields[k].strip() for name, k in self._ours.items()}
        site = ours.get("site", str(self._default_site))
        number = int(site) if site.isascii() and site.isdigit() else -1
        perturbation = ours.get("perturbation", "")
        word = ours.get("role")
        role = role_of(word) if word else (Role.TREATMENT if perturbation else Role.UNKNOWN)
        entry = Entry(
            experiment=ours.get("experiment", "all"),
            plate=ours["plate"],
            well=ours["well"],
            site=max(number, 0),
            cell_type=ours.get("cell_type", ""),
            perturbation=perturbation,
            role=role or Role.UNKNOWN,
            split=ours.get("split", ""),
            table=self._table,
            line=line,
            extra=tuple(fields[k] for k in self._extra),
            fields=fields,
        )
        wrong_paths = self._add_paths(entry, fields)
        for name in ("experiment", "plate"):
            if not getattr(entry, name):
                return entry, entry.problem(f"no {name}", found="''", expected=f"a {name}", fix="Fill it in.")
        if number < 0:
            return entry, entry.problem(
                "bad site", found=repr(site), expected="a whole number", fix="Number the sites of a well."
            )
        if role is None:
            expected = f"one of {', '.join(ROLE_WORDS)}"
            return entry, entry.problem("bad role", found=repr(word), expected=expected, fix="Correct the role.")
        return entry, wrong_paths

    def _add_paths(self, entry: Entry, fields: tuple[str, ...]) -> Problem | None:
        if not self._paths:
            return None
        written = [fields[k].strip() for k in self._paths]
        if self._has_pages:
            written = written * len(self._names)
            entry.pages = tuple(range(len(self._names)))
        else:
            entry.pages = (-1,) * len(self._names)
        missing = [name for name, value in zip(self._names, written, strict=True) if not value]
        if missing:
            return entry.problem(
                "no image" if len(missing) == len(written) else "missing channel",
                channel=", ".join(missing),
                found="no path",
                expected=f"a path for each of {', '.join(self._names)}",
                fix="Fill in the paths, or take the row out.",
            )
        paths = [self._inside(value) for value in written]
        for name, value, path in zip(self._names, written, paths, strict=True):
            if path is None:
                return entry.problem(
                    "path outside the source",
                    channel=name,
                    found=value,
                    expected="a path below the source folder",
                    fix="Write paths relative to the source folder, and name the folder above all images as source.",
                )
        entry.paths = tuple(path for path in paths if path is not None)
        if not self._has_pages and len(set(entry.paths)) < len(entry.paths):
            twice = [name for name, path in zip(self._names, paths, strict=True) if paths.count(path) > 1]
            return entry.problem(
                "one file for two channels",
                channel=", ".join(twice),
                found=entry.paths[self._names.index(twice[0])],
                expected="a file per channel",
                fix="Correct the paths; files of many pages need --pages COLUMN.",
            )
        return None

    def _inside(self, written: str) -> str | None:
        # Tables from Windows write \ between folders.
        text = written if "/" in written else written.replace("\\", "/")
        if re.match(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", text) or "\0" in text:
            return None
        path = posixpath.normpath(text)
        if path.startswith("/"):
            below = [path.removeprefix(f"{root}/") for root in self._roots if path.startswith(f"{root}/")]
            return below[0] if below else None
        return None if path == ".." or path.startswith("../") or path == "." else path


def _apply_controls(entries: Sequence[Entry], controls: Mapping[str, Sequence[str]]) -> None:
    known = {entry.perturbation for entry in entries if entry.perturbation}
    role_by_name: dict[str, Role] = {}
    for word, names in controls.items():
        role = role_of(word)
        if role is None or not word:
            message = f"Controls {word!r}: no such role. {nearest(word, [item.value for item in Role])}"
            raise ScreenError(message)
        for name in names:
            if name not in known:
                flag = f"--{role.value.replace('_', '-')}"
                message = f"{flag} {name}: no row has the perturbation {name!r}. {nearest(name, known)}"
                raise ScreenError(message)
            if role_by_name.setdefault(name, role) != role:
                message = f"{name!r} is named as {role_by_name[name]} and as {role}. Keep one."
                raise ScreenError(message)
    for entry in entries:
        entry.role = role_by_name.get(entry.perturbation, entry.role)


def _unnamed_images(source: Path, entries: Sequence[Entry]) -> list[Problem]:
    """Return a warning for every folder that holds images which no row names."""
    named: dict[str, set[str]] = {}
    for entry in entries:
        for path in entry.paths:
            folder, name = posixpath.split(path)
            named.setdefault(folder, set()).add(name)
    problems: list[Problem] = []
    for folder in sorted(named):
        try:
            with os.scandir(source / folder) as listing:
                there = {item.name for item in listing if _IMAGE.fullmatch(item.name)}
        except OSError:
            continue  # each of its files is refused by name when it is looked at
        others = sorted(there - named[folder])
        if others:
            problems.append(
                Problem(
                    severity="warning",
                    kind="images that no row names",
                    file=folder or ".",
                    found=", ".join(others[:5]) + (", ..." if len(others) > 5 else ""),
                    expected="a row for every image",
                    fix="Add their rows if they belong to the screen.",
                    count=len(others),
                )
            )
    return problems


def _renamed(extra: Sequence[str]) -> tuple[str, ...]:
    """Keep the table's own columns apart from ours: theirs get `table_` before the name."""
    names: list[str] = []
    for name in extra:
        renamed = name
        while (
            renamed in SITE_COLUMNS
            or _TAKEN.fullmatch(renamed)
            or renamed in names
            or renamed in extra[len(names) + 1 :]
        ):
            renamed = f"table_{renamed}"
        names.append(renamed)
    return tuple(names)
