"""Conditions on records: flat columns, ranges, lists, and expressions such as ``score.GrC < 5``.

A record is nested data; its columns are flat. Quantities by projection or population take brackets
(``Q[mf->GrC]``, ``N[GrC]``), everything else takes dots (``score.GrC``, ``provenance.seed``).
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from automfm_hpc.errors import LibraryError, suggest

BRACKETED = ("K", "K_sd", "Q", "tau_syn", "E", "delay", "N")
_TERM = re.compile(r"\s*([A-Za-z_][\w.]*(?:\[[^\]]*\])?)\s*(<=|>=|!=|==|=|<|>)\s*(.+?)\s*$")
_TOKEN = re.compile(r"""(?P<text>"[^"]*"|'[^']*')|(?P<number>\d[\d.]*(?:[eE][+-]?\d+)?)"""
                    r"""|(?P<word>\b(?:and|or|not|in|True|False)\b)|(?P<name>[A-Za-z_][\w.]*(?:\[[^\]]*\])?)""")
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b}  # fmt: skip


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a record."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if key in BRACKETED and isinstance(value, Mapping):
            flat.update({f"{key}[{name}]": v for name, v in value.items()})
        elif isinstance(value, Mapping):
            flat.update({f"{key}.{name}": v for name, v in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def parse_terms(terms: Iterable[str]) -> dict[str, Any]:
    """Command-line terms as arguments of `Library.search`.

    ``pathology=ataxia``, ``pathology=ataxia,control`` (any of), ``Q[mf->GrC]=0.2:0.5`` (a range, either
    end may be left out), and comparisons such as ``score.GrC<5``, which become the ``query``.
    """
    found: dict[str, Any] = {}
    comparisons = []
    for term in terms:
        match = _TERM.match(term)
        if not match:
            raise LibraryError("is not a condition", where=f"'{term}'",
                               remedy="Write pathology=ataxia, 'Q[mf->GrC]=0.2:0.5' or 'score.GrC<5'.")
        name, sign, value = match.groups()
        if sign == "=":
            found[name] = _parse_value(value)
        else:
            comparisons.append(f"{name} {sign} {_quoted(value)}")
    return {**found, "query": " and ".join(comparisons)} if comparisons else found


def _parse_value(text: str) -> Any:
    low, colon, high = text.partition(":")
    ends = [_number(low) if low else None, _number(high) if high else None]
    if colon and not any(isinstance(e, str) for e in ends):
        return tuple(ends)
    if "," in text:
        return [_number(part.strip()) for part in text.split(",")]
    return _number(text)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _quoted(text: str) -> str:
    bare = text.strip("'\"")
    return repr(bare) if isinstance(_number(text), str) else text


def conditions(criteria: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Criteria by column; nested ones flattened.

    Raises
    ------
    LibraryError
        If a column is unknown.
    """
    flat: dict[str, Any] = {}
    for key, value in criteria.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}[{k}]" if key in BRACKETED else f"{key}.{k}": v for k, v in value.items()})
        else:
            flat[key] = value
    for column, value in flat.items():
        check_column(column, columns)
        if isinstance(value, tuple) and len(value) != 2:
            raise LibraryError(f"a range needs two ends, not {len(value)}", where=f"search: {column}",
                               remedy="Give (low, high), with None for an open end, or a list for any of its values.")
    return flat


def check_column(column: str, columns: Collection[str]) -> None:
    if column in columns:
        return
    below = sorted(c for c in columns if c.startswith((f"{column}[", f"{column}.")))
    remedy = f"Choose one of: {', '.join(below)}." if below else suggest(column, columns)
    raise LibraryError(f"unknown column '{column}'", where="search", remedy=remedy)


def satisfies(value: Any, wanted: Any) -> bool:
    """Whether a value is in a range (tuple), among several (list, set), or equal."""
    if isinstance(wanted, tuple):
        low, high = wanted
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return known and (low is None or value >= low) and (high is None or value <= high)
    if isinstance(wanted, list | set | frozenset):
        return any(satisfies(value, w) for w in wanted)
    if isinstance(value, str):
        return value == (f"{wanted:g}" if isinstance(wanted, float) else wanted)
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=1e-9)
    return bool(value == wanted)


def compile_query(text: str, columns: Collection[str]) -> Callable[[Mapping[str, Any]], bool]:
    """An expression over columns as a function of a flat record.

    Comparisons, ``and``, ``or``, ``not``, ``in`` and parentheses; a comparison with a value the record
    does not have is false.
    """
    names: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        check_column(name, columns)
        names.append(name)
        return f"_{len(names) - 1}"

    source = _TOKEN.sub(replaced, text).strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError:
        raise _not_a_query(text) from None
    _check(tree, text)
    return lambda flat: bool(_value(tree, [flat.get(name) for name in names]))


def _not_a_query(text: str) -> LibraryError:
    return LibraryError("is not a condition", where=f"query '{text}'",
                        remedy="Write for example: score.GrC < 5 and pathology == 'ataxia'.")


def _check(node: ast.AST, text: str) -> None:
    allowed = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.cmpop, ast.Name, ast.Load,
               ast.Constant, ast.List, ast.Tuple)
    condition = isinstance(node, ast.BoolOp | ast.UnaryOp | ast.Compare)
    if not condition or not all(isinstance(n, allowed) for n in ast.walk(node)):
        raise _not_a_query(text)


def _value(node: ast.AST, values: list[Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[int(name[1:])]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(p, values) for p in parts]
        case ast.UnaryOp(op=op, operand=operand):
            return not _value(operand, values) if isinstance(op, ast.Not) else -_value(operand, values)
        case ast.BoolOp(op=op, values=parts):
            every = all if isinstance(op, ast.And) else any
            return every(_value(p, values) for p in parts)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(n, values) for n in (left, *others)]
            return all(_holds(o, a, b) for o, a, b in zip(ops, sides, sides[1:], strict=False))
    raise AssertionError(f"unchecked node {ast.dump(node)}")


def _holds(op: ast.cmpop, a: Any, b: Any) -> bool:
    if a is None or b is None:
        return False
    try:
        return bool(_COMPARE[type(op)](a, b))
    except TypeError:
        return False
