"""The pages of the documentation, their code blocks and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & {*path.relative_to(DOCS).parts}),
]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, without their indentation."""
    blocks = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in blocks if kind == language]


def shell_blocks(page: Path) -> Iterator[str]:
    """Return what a reader may type: fenced blocks of a shell, and indented blocks."""
    yield from code_blocks(page, "sh")
    yield from code_blocks(page, "bash")
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("    "):
            block.append(line.strip() if not block else line)
        elif block and (line.strip() or re.match(r" *distangle|make|python|pip|torchrun|for ", block[0])):
            yield "\n".join(block)
            block = []


def commands(block: str) -> Iterator[list[str]]:
    """Return the words of every command of a block, with its variables replaced by their values."""
    text = re.sub(r"\\\n\s*", " ", block)
    values = dict(re.findall(r"^\s*for (\w+) in (\w+)", text, flags=re.MULTILINE))
    values |= {name: " ".join(value.split()) for name, value in re.findall(r'(\w+)="([^"]*)"', text)}
    for _ in range(3):  # a value may hold another variable
        text = re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], match[1]), text)
    text = re.sub(r'="([^"]*)"', lambda match: "='" + " ".join(match[1].split()) + "'", text)
    for line in text.splitlines():
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
            lexer.whitespace_split = True
            tokens = [*lexer]
        except ValueError:  # prose of a terminal, with an apostrophe
            continue
        command: list[str] = []
        for word in [*tokens, ";"]:
            if word and set(word) <= set(";&|<>()"):
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def distangle_commands(page: Path) -> Iterator[list[str]]:
    """Return the words after `distangle` of every command in the blocks of a page."""
    for block in shell_blocks(page):
        for arguments in commands(block):
            if "distangle" in arguments and arguments[0] in ("distangle", "torchrun", "srun", "exec"):
                yield arguments[arguments.index("distangle") + 1 :]


def inline_commands(page: Path) -> Iterator[list[str]]:
    """Return the words after `distangle` in the code spans of the prose."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for span in re.findall(r"`distangle ([^`]+)`", text):
        yield shlex.split(span, comments=True)


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Return the numbered lines of prose and tables, without blocks and code spans."""
    is_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and not line.startswith("    "):
            yield number, re.sub(r"`[^`]*`|\]\([^)]*\)|<https?:[^>]*>", "", line)
