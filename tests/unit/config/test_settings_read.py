"""No setting is without a reader: the source is searched for attributes of values of its section.

Types are followed through annotations, `self.x = ...`, plain and tuple assignments, attributes of
dataclasses, and the results of annotated functions. A parameter of a lambda, which has no type, may
be any section that its module imports. What a name is made of at run time
(`getattr(section, name)`, `vars(section)`, `asdict(section)`) counts as reading the whole section.
"""

import ast
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import naics_job
from naics_job.config.schema import Config
from naics_job.config.trainer import TRAINER_KEY

PACKAGE = Path(naics_job.__file__).parent
CONFIG = PACKAGE / "config"
ARITHMETIC = {CONFIG / "batches.py", CONFIG / "length.py"}
# publish.py writes whole sections down beside the model, which is no use of them
READERS = [
    file
    for file in PACKAGE.rglob("*.py")
    if file.name != "publish.py" and (file.parent != CONFIG or file in ARITHMETIC)
]
Attributes = dict[str, dict[str, str]]  # class -> attribute -> name of its type
LAMBDA = "?"  # type of a parameter of a lambda
Read = set[tuple[str, str]]  # class of the section, setting


def section_of_keys(root: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Every dotted key of a schema class with its section's class and its last word."""
    for field in dataclasses.fields(root):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from section_of_keys(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", (root.__name__, field.name)


@functools.cache  # five tests read the whole package; none changes a tree
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def settings_read(files: Iterable[Path], also_typed: Iterable[Path], root: type) -> Read:
    """Class and name of every attribute of a section that `files` read.

    Args:
        files: whose reading counts.
        also_typed: whose classes and functions may give types as well.
        root: the schema.
    """
    trees = [parsed(file) for file in files]
    known = trees + [parsed(file) for file in also_typed]
    attributes: Attributes = {}
    _add_sections(root, attributes)
    sections = set(attributes)
    results: dict[str, str] = {}
    for node in (node for tree in known for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            results[node.name] = _named(node.returns)
        elif isinstance(node, ast.ClassDef) and node.name not in sections:
            attributes[node.name] = {
                item.target.id: _named(item.annotation)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
    read: Read = set()
    for _ in range(3):  # what `self.x` is may be known only after another class
        for tree in trees:
            visitor = _Reader(attributes, results, sections)
            visitor.visit(tree)
            read |= visitor.read
    return {(section, name) for section, name in read if section in sections}


def _add_sections(section: type, attributes: Attributes) -> None:
    own = attributes.setdefault(section.__name__, {})
    for field in dataclasses.fields(section):
        own[field.name] = ""
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            own[field.name] = field.type.__name__
            _add_sections(field.type, attributes)


def _named(annotation: ast.expr | None) -> str:
    """The class an annotation names, or nothing; `C | None` and `"C"` are C."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _named(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp):
        return _named(annotation.left)
    if isinstance(annotation, ast.Attribute):
        return annotation.attr
    return annotation.id if isinstance(annotation, ast.Name) else ""


class _Reader(ast.NodeVisitor):
    """Walks a module in the order of its lines, with the types of the names in reach."""

    def __init__(self, attributes: Attributes, results: dict[str, str], sections: set[str]) -> None:
        self.attributes, self.results, self.sections = attributes, results, sections
        self.imported: set[str] = set()  # sections
        self.types: dict[str, str] = {}
        self.inside = ""  # class
        self.read: Read = set()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self.inside = self.inside, node.name
        self.generic_visit(node)
        self.inside = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer = self.types
        arguments = (*node.args.args, *node.args.kwonlyargs)
        given = {arg.arg: _named(arg.annotation) for arg in arguments}
        self.types = {**outer, "self": self.inside, **{k: v for k, v in given.items() if v}}
        self.generic_visit(node)
        self.types = outer

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported |= {alias.name for alias in node.names} & self.sections

    def visit_Lambda(self, node: ast.Lambda) -> None:
        outer = self.types
        self.types = {**outer, **{arg.arg: LAMBDA for arg in node.args.args}}
        self.generic_visit(node)
        self.types = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            kind = self._type(node.value)
            for section in self.imported if kind == LAMBDA else {kind}:
                self.read.add((section, node.attr))

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        by_name = isinstance(node.func, ast.Name) and node.func.id in ("getattr", "vars", "asdict")
        if by_name and node.args:
            section = self._type(node.args[0])
            self.read |= {(section, name) for name in self.attributes.get(section, ())}

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._assign(one, other)
        elif isinstance(target, ast.Name):
            self.types[target.id] = self._type(value)
        elif isinstance(target, ast.Attribute) and (kind := self._type(value)):
            self.attributes.setdefault(self._type(target.value), {})[target.attr] = kind

    def _type(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.types.get(node.id, "")
        if isinstance(node, ast.IfExp):
            return self._type(node.body)
        if isinstance(node, ast.Attribute):
            return self.attributes.get(self._type(node.value), {}).get(node.attr, "")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "replace" and node.args:
                return self._type(node.args[0])
            return self.results.get(node.func.id, node.func.id)
        return ""


def unread(files: list[Path], root: type = Config) -> set[str]:
    """Settings that none of the files reads; those of the Trainer are passed on as they are."""
    read = settings_read(files, CONFIG.glob("*.py"), root)
    keys = {key: place for key, place in section_of_keys(root) if key != TRAINER_KEY}
    return {key for key, place in keys.items() if place not in read}


def test_every_setting_is_read_by_some_code() -> None:
    assert not unread(READERS), "read these settings or remove them"


@pytest.mark.parametrize(
    ("reader", "keys"),
    [
        ("curriculum/schedule.py", {"curriculum.anneal.shape", "curriculum.anneal.hard_share_end"}),
        ("curriculum/plan.py", {"sampling.sans_static.near_share"}),
        ("model/transformer.py", {"model.lora.alpha", "model.lora.target_modules"}),
        ("loss/objective.py", {"loss.hierarchy_weight", "false_negatives.attract_weight"}),
    ],
)
def test_a_setting_that_lost_its_reader_is_found(reader: str, keys: set[str]) -> None:
    """Words such as shape, strategy and alpha are attributes of many things."""
    assert keys - unread([file for file in READERS if file != PACKAGE / reader]) == set()


def test_types_are_followed_to_the_section(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text(
        "class User:\n"
        "    def __init__(self, config: Config) -> None:\n"
        "        self.anneal, name = config.curriculum.anneal, config.experiment_name\n"
        "    def use(self, other: Tensor) -> None:\n"
        "        print(self.anneal.shape, other.alpha)\n"
    )
    left = unread([file])
    assert not {"experiment_name", "curriculum.anneal.shape"} & left
    assert {"model.lora.alpha", "seed", "curriculum.anneal.hard_share_end"} <= left
