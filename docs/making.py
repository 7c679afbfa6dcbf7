"""What the site takes out of the code without importing it: names, docstrings as Markdown, the reference, the catalogue of cells.

mkdocs.yml names this file twice: as a hook, which adds the pages that are generated and turns `module.name` in any page into a link; and as an
extension of griffe, which turns docstrings into Markdown. ``tests/test_docs.py`` reads it without either.
"""

import ast
import re
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

try:
    import griffe
except ModuleNotFoundError:  # names and pages need no griffe
    griffe = None  # type: ignore[assignment]

PACKAGE = Path(__file__).parents[1] / "jaxrnn"
SHELVES = {"cells": "Recurrences", "tasks": "Tasks"}  # modules whose files register what they hold
_SECTIONS = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):\s*$")
_NOTES = re.compile(r"(Source|Cost): (?=\S)")
_ITEM = re.compile(r"[*A-Za-z_][\w*]*(, [*A-Za-z_][\w*]*)*: ")
_SUB = re.compile(r"(?<![A-Za-z0-9_.])(?!n_(?:in|out)\b)(d?[A-Za-zΑ-Ωα-ω]|\))_(\{[^{}]+\}|[A-Za-z0-9Α-Ωα-ω]{1,3}(?:,[ijk]{1,2})?(?![A-Za-z0-9_]))")
_SUP = re.compile(r"\^(\{[^{}]+\}|\([^()]+\)|[A-Za-z0-9Α-Ωα-ω]+)")
_SPAN = re.compile(r"(?<![\[`])`([A-Za-z_]\w*(?:\.\w+)+)((?:\([^`]*\))?)`(?![`\]])")


class Entry(NamedTuple):
    """One public name."""

    module: str  # a public module of jaxrnn
    name: str  # as a reader writes it, module.name
    path: str  # where griffe finds it; its anchor in the reference


class Registered(NamedTuple):
    """A constructor on a shelf."""

    name: str  # in the registry
    module: str  # dotted, where it is written
    function: str
    equation: str  # of a task: what is asked
    source: str
    docstring: str


# Names


@cache
def modules() -> tuple[str, ...]:
    """The public modules, as ``jaxrnn.__all__`` lists them."""
    return tuple(_exported(_parsed(PACKAGE / "__init__.py")) or ())


@cache
def entries() -> tuple[Entry, ...]:
    """Every public name: what ``__all__`` lists; without one every function, class and documented value; what shelves hold; modules inside."""
    found = []
    for module in modules():
        tree = _parsed(_file(module))
        for name in _exported(tree) or _defined(tree):
            found.append(Entry(module, f"{module}.{name}", _path(tree, module, name)))
            if name in _modules_inside(tree, module):
                inner = _defined(_parsed(PACKAGE / module / f"{name}.py"))
                found += [Entry(module, f"{module}.{name}.{part}", f"jaxrnn.{module}.{name}.{part}") for part in inner]
        known = {entry.name for entry in found}
        for made in shelf(module):
            name = f"{module}.{made.function}"
            entry = Entry(module, name, f"{made.module}.{made.function}")
            found = [entry if other.name == name else other for other in found] if name in known else [*found, entry]
    return tuple(found)


@cache
def shelf(module: str) -> tuple[Registered, ...]:
    """What the files of a module register, file by file."""
    found = []
    for path in sorted((PACKAGE / module).glob("*.py")) if module in SHELVES else ():
        for node in _parsed(path).body:
            if isinstance(node, ast.FunctionDef):
                for call in node.decorator_list:
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register":
                        given = [ast.literal_eval(value) for value in [*call.args, *(keyword.value for keyword in call.keywords)]]
                        name = node.name.replace("_", "-") if module == "tasks" else node.name
                        found.append(Registered(name, f"jaxrnn.{module}.{path.stem}", node.name, *given, ast.get_docstring(node) or ""))
    return tuple(found)


@cache
def names() -> dict[str, str]:
    """What a reader writes -> its anchor, of every module and every public name in one."""
    return {module: f"jaxrnn.{module}" for module in modules()} | {entry.name: entry.path for entry in entries()}


def linked(markdown: str) -> str:
    """A page in which each `module.name` in code that is a public name is a link to its entry; blocks of code stay as they are."""

    def link(match: re.Match) -> str:
        anchor = names().get(match[1])
        return match[0] if anchor is None else f"[`{match[1]}{match[2]}`][{anchor}]"

    return "\n".join(line if is_code else _SPAN.sub(link, _raised_outside_code(line)) for line, is_code in _told_apart(markdown))


def _raised_outside_code(line: str) -> str:
    """Sub- and superscripts in prose, not in code, targets of links, or directives."""
    if line.startswith((":::", "    ")):
        return line
    return "".join(part if i % 2 else raised(part) for i, part in enumerate(re.split(r"(`[^`]*`|\]\([^)]*\)|\]\[[^\]]*\]|\{ #.*\})", line)))


def _told_apart(markdown: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is inside a block of code."""
    fence = ""
    for line in markdown.split("\n"):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        opens = bool(mark) and not fence
        yield line, bool(fence) or opens
        if mark and (opens or mark[1].startswith(fence)):
            fence = mark[1] if opens else ""


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _file(module: str) -> Path:
    path = PACKAGE / f"{module}.py"
    return path if path.is_file() else PACKAGE / module / "__init__.py"


def _exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return None


def _path(tree: ast.Module, module: str, name: str) -> str:
    """Where griffe finds a name: in its package, but where a file is written that bears its name."""
    if not (PACKAGE / module / f"{name}.py").is_file():
        return f"jaxrnn.{module}.{name}"
    homes = (node.module for node in tree.body if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names})
    return f"{next(homes)}.{name}"


def _modules_inside(tree: ast.Module, module: str) -> set[str]:
    """What a package imports from itself, which can only be modules."""
    return {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == f"jaxrnn.{module}" for alias in node.names}


def _defined(tree: ast.Module) -> list[str]:
    """Public functions and classes, in order, and values that a string explains."""
    found = []
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found.append(getattr(node.target, "id", "_"))
    return [name for name in found if not name.startswith("_")]


# Docstrings


def as_markdown(docstring: str, module: str = "") -> str:
    """A docstring of the house's style as Markdown.

    Sections become headings in bold with a list or a paragraph; doctests become blocks of code; double backticks single ones; what is a
    public name, of ``module`` without its prefix too, becomes a link.
    """
    blocks: list[str] = []
    lines = docstring.expandtabs(4).split("\n")
    while lines:
        line = lines[0]
        if _SECTIONS.match(line):
            body = _indented(lines)
            blocks.append(_section(line.strip().rstrip(":"), body, module))
        elif line.lstrip().startswith(">>>"):
            blocks.append(_doctest(lines))
        elif not line.strip():
            lines.pop(0)
        else:
            blocks.append(_prose(_paragraph(lines), module))
    return "\n\n".join(blocks) + "\n"


def _indented(lines: list[str]) -> list[str]:
    """The lines below a section's title, taken off ``lines`` and off their margin."""
    lines.pop(0)
    body = []
    while lines and (not lines[0].strip() or lines[0].startswith("    ")):
        body.append(lines.pop(0)[4:])
    return body


def _paragraph(lines: list[str]) -> list[str]:
    found = []
    while lines and lines[0].strip() and not _SECTIONS.match(lines[0]) and not lines[0].lstrip().startswith(">>>"):
        found.append(lines.pop(0))
    return found


def _doctest(lines: list[str]) -> str:
    """A block of code out of examples that follow one another, taken off ``lines``."""
    margin = len(lines[0]) - len(lines[0].lstrip())
    found: list[str] = []
    while lines and (lines[0].strip() or (len(lines) > 1 and lines[1].lstrip().startswith(">>>"))):
        found.append(lines.pop(0)[margin:])
    return "\n".join(["```pycon", *found, "```"])


def _section(title: str, body: list[str], module: str) -> str:
    """A list where items are named, else a paragraph."""
    text = "\n".join(body).strip("\n")
    if title in ("Returns", "Yields"):
        return f"**{title}**\n\n" + "\n\n".join(_prose(part.split("\n"), module) for part in re.split(r"\n\s*\n", text))
    items: list[list[str]] = []
    for line in body:
        if items and (line.startswith(" ") or not _ITEM.match(line)):
            items[-1].append(line.strip())
        else:
            items.append([line])
    return f"**{title}**\n\n" + "\n".join(f"- {_item(' '.join(filter(None, item)), title, module)}" for item in items)


def _item(text: str, title: str, module: str) -> str:
    match = re.match(r"([*\w, ]+):\s+(.*)", text)
    if title == "Raises" or match is None:
        return _prose([text], module)
    given = ", ".join(f"`{name.strip()}`" for name in match[1].split(","))
    return f"{given}: {_prose([match[2]], module)}"


def _prose(lines: list[str], module: str) -> str:
    """A paragraph or list: code with its links, mathematics with its subscripts."""
    text = "\n".join(lines)
    note = _NOTES.match(text)
    text = text[note.end() :] if note else text
    parts = re.split(r"(``.+?``)", text, flags=re.DOTALL)
    said = "".join(_span(part[2:-2], module) if i % 2 else _escaped(part) for i, part in enumerate(parts))
    return f"**{note[1]}:** {said}" if note else said


def _span(code: str, module: str) -> str:
    code = " ".join(code.split())
    for name in (code, f"{module}.{code}"):
        if name in names():
            return f"[`{code}`][{names()[name]}]"
    return f"`{code}`"


def _escaped(text: str) -> str:
    """Mathematics in plain text, so that Markdown reads no marks into it, with its sub- and superscripts."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*\[\]_])", r"\\\1", raised(text))


def raised(text: str) -> str:
    """h_{t−1}, W_hh and a^(t−k) with HTML's sub- and superscripts; a subscript's base is one letter, so that names stay as they are."""
    text = _SUB.sub(lambda m: f"{m[1]}<sub>{m[2].strip('{}')}</sub>", text)
    return _SUP.sub(lambda m: f"<sup>{m[1][1:-1] if m[1][0] in '{(' else m[1]}</sup>", text)


# Pages


def reference(module: str) -> str:
    """The page of a module: its docstring, then each public name by a directive of mkdocstrings."""
    docstring = ast.get_docstring(_parsed(_file(module))) or ""
    made = {f"{module}.{entry.function}" for entry in shelf(module)}
    lines = [f"# {module} {{ #jaxrnn.{module} }}", "", as_markdown(docstring, module)]
    plain = [entry for entry in entries() if entry.module == module and entry.name not in made]
    for entry in plain:
        lines += [f"::: {entry.path}", "    options:", f"      heading_level: {2 + entry.name.count('.') - 1}"]
        lines += ["      members: false", ""] if any(other.name.startswith(f"{entry.name}.") for other in plain) else [""]  # a module inside
    if made:
        lines += [f"## {SHELVES[module]}", "", f"What the files of `jaxrnn/{module}/` register, one family to a file.", ""]
    for entry in shelf(module):
        lines += [f"::: {entry.module}.{entry.function}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)


def catalogue() -> str:
    """The page of cells: for each its equation, source, what theory says of its Jacobians, its parameters."""
    lines = [
        "# The catalogue of cells",
        "",
        "Made from the registry and its docstrings when the site is built; `jaxrnn cells` prints the same list with the memory horizon of each at",
        "initialisation, measured. Names in the equations: h is the state, x the input, σ the logistic function, ∘ the product entry by entry.",
        "A constructor takes `(n_in, n_hidden)` and what the reference lists; `cell.init_params(key, …)` takes the scales.",
        "",
        "| cell | equation | source |",
        "|---|---|---|",
    ]
    lines += [f"| [{made.name}](#{made.name}) | {_cell(made.equation)} | {_cell(made.source)} |" for made in shelf("cells")]
    for made in shelf("cells"):
        parts = _parts(made.docstring)
        lines += [
            "",
            f"## {made.name} {{ #{made.name} }}",
            "",
            _escaped(parts["summary"]),
            "",
            "| | |",
            "|---|---|",
            f"| equation | {_cell(made.equation)} |",
            f"| source | {_cell(made.source)} |",
            f"| theory | {parts['theory']} |",
            f"| parameters | {parts['parameters']} |",
            f"| entry | `cells.{made.function}` |",
            f"| file | `{made.module.replace('.', '/')}.py` |",
        ]
    return "\n".join(lines) + "\n"


def _parts(docstring: str) -> dict[str, str]:
    """Summary, what stands between it and the arguments, and what is returned; of a docstring in the house's style."""
    summary, _, rest = docstring.partition("\n")
    theory = re.split(r"^(?:Args|Returns|Raises|Source):?", rest, maxsplit=1, flags=re.MULTILINE)[0]
    returns = re.search(r"^Returns:\n((?:    .*\n|\n)+)", docstring, flags=re.MULTILINE)
    flat = lambda text: " ".join(_prose([" ".join(part.split())], "cells").replace("|", "\\|") for part in re.split(r"\n\s*\n", text.strip()))
    return {"summary": summary, "theory": flat(theory) or "—", "parameters": flat(returns[1]) if returns else "as the cell it varies"}


def _cell(text: str) -> str:
    """Text inside a table."""
    return _escaped(text).replace("|", "\\|")


def generated() -> Mapping[str, str]:
    """Path in the site's sources -> Markdown, of every page that nobody writes."""
    return {"cells.md": catalogue()} | {f"reference/{module}.md": reference(module) for module in modules()}


# Called by mkdocs


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Link public names in code; a session is coloured as one, its output apart."""
    return linked(markdown).replace("```python\n>>> ", "```pycon\n>>> ")


# Called by griffe


class Docstrings(griffe.Extension if griffe else object):  # type: ignore[misc]
    """Docstrings as Markdown; fields of a class, explained by the comments beside them, as a list below its own."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.is_alias or not (obj.docstring or obj.is_class or obj.is_attribute):
            return
        parts = obj.path.split(".")
        text = "" if obj.docstring is None else as_markdown(obj.docstring.value, parts[1] if len(parts) > 1 else "")
        if obj.is_class:
            text += _fields(obj)
        elif obj.is_attribute and not text and obj.parent.is_module:
            text = _escaped(_comment(obj.filepath, obj.endlineno) or "")
        if text:
            obj.docstring = griffe.Docstring(text, lineno=obj.lineno, endlineno=obj.endlineno, parent=obj)


def _fields(obj: Any) -> str:
    """The fields of a NamedTuple or dataclass as a list."""
    rows = []
    for name, member in obj.members.items():
        if not member.is_alias and member.is_attribute and not name.startswith("_") and "property" not in member.labels and member.annotation:
            note = _comment(member.filepath, member.endlineno)
            default = f" = {member.value}" if member.value is not None else ""
            rows.append(f"- `{name}: {member.annotation}{default}`" + (f": {_escaped(note)}" if note else ""))
    return "\n\n**Fields**\n\n" + "\n".join(rows) + "\n" if rows else ""


def _comment(path: Path, line: int) -> str | None:
    return _comments(path).get(line)


@cache
def _comments(path: Path) -> dict[int, str]:
    """Line -> the comment on it."""
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if not token.string.startswith(("# noqa", "# type:", "# fmt"))}
