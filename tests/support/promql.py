"""PromQL as tests see it: the metrics a query reads, and the labels its result has."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from naics_job.observability.metrics import CATALOGUE, CONSTANT_LABELS

# What Prometheus adds to the series of a target; namespace comes from the pod it finds.
TARGET_LABELS = frozenset({"namespace", "job", "instance"})
HISTOGRAM_ENDS = ("_bucket", "_count", "_sum")
SET_OPERATORS = {"and", "or", "unless"}


def family(name: str) -> str:
    """Name in the catalogue of what is scraped as `name`."""
    for end in HISTOGRAM_ENDS:
        base = name.removesuffix(end)
        if base != name and base in CATALOGUE and CATALOGUE[base].kind == "histogram":
            return base
    return name


def labels_of(name: str) -> frozenset[str]:
    """Labels of what is scraped as `name`; KeyError where nothing is."""
    if name == "up":
        return TARGET_LABELS
    base = family(name)
    own = CATALOGUE[base].labels
    bound = ("le",) if name == f"{base}_bucket" else ()
    if CATALOGUE[base].kind == "histogram" and base == name:
        raise KeyError(name)  # there are only its buckets, count and sum
    return TARGET_LABELS.union(own, bound, CONSTANT_LABELS)


def walk(node: Any) -> Iterator[Any]:
    """A node and all below it, those in ranges too."""
    yield node
    for child in _children(node):
        yield from walk(child)


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of series in an expression."""
    return (part for part in walk(node) if isinstance(part, promql.VectorSelector))


def _children(node: Any) -> list[Any]:
    match node:
        case promql.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql.Call():
            return list(node.args)
        case promql.MatrixSelector():
            return [node.vector_selector]
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr():
            return [node.expr]
        case promql.SubqueryExpr():
            return [node.expr]
    return []


def result_labels(node: Any, recorded: dict[str, frozenset[str]]) -> frozenset[str]:
    """Labels that a result may have.

    Args:
        node: a parsed expression.
        recorded: labels by name of what rules record.

    Raises:
        KeyError: no metric of that name.
        AssertionError: it groups or joins by a label that is not there.
    """
    match node:
        case promql.VectorSelector():
            known = recorded.get(node.name) or labels_of(node.name)
            for matcher in node.matchers.matchers:
                assert matcher.name in known, f"{node.name} has no label {matcher.name}"
            return known
        case promql.AggregateExpr():
            inner = result_labels(node.expr, recorded)
            wanted = frozenset(node.modifier.labels) if node.modifier else frozenset()
            assert wanted <= inner, f"{set(wanted - inner)} is not in {node.expr.prettify()}"
            return wanted
        case promql.BinaryExpr():
            return _joined(node, recorded)
        case promql.Call() if node.func.name == "label_replace":
            return result_labels(node.args[0], recorded) | {node.args[1].val}
    below = [result_labels(child, recorded) for child in _children(node)]
    return max(below, key=len, default=frozenset())


def _joined(node: Any, recorded: dict[str, frozenset[str]]) -> frozenset[str]:
    left, right = (result_labels(side, recorded) for side in (node.lhs, node.rhs))
    if scalar(node.lhs) or scalar(node.rhs):
        return left | right
    matching = node.modifier.matching if node.modifier else None
    named = frozenset(matching.labels) if matching else frozenset()
    if str(node.op) in SET_OPERATORS:
        assert named <= left & right, f"{set(named)} is not on both sides of {node.prettify()}"
        return left | right if str(node.op) == "or" else left
    if matching is None or matching.type == promql.LabelModifierType.Exclude:
        return left - named
    assert named <= left & right, f"{set(named)} is not on both sides of {node.prettify()}"
    if node.modifier.card == promql.VectorMatchCardinality.OneToOne:
        return named
    return left | frozenset(node.modifier.group_labels or ())


def scalar(node: Any) -> bool:
    """Whether the result is a plain number, which has no labels to match."""
    match node:
        case promql.NumberLiteral():
            return True
        case promql.Call():
            return node.func.name in {"time", "scalar", "pi"}
        case promql.BinaryExpr() | promql.ParenExpr() | promql.UnaryExpr():
            return all(scalar(child) for child in _children(node))
    return False


def braced(text: str) -> set[str]:
    """Names in double braces, as in a legend: {{rank}}."""
    return set(re.findall(r"{{\s*(\w+)\s*}}", text))
