"""Quantities with units at the border; inside everything is mV, ms, pF, nS, pA, Hz."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from automfm_hpc.errors import NetworkError


@cache
def _registry() -> Any:
    # pint is the field's usual unit library; it takes a while to load, so only readers of text pay.
    import pint

    return pint.UnitRegistry(cache_folder=None)


def parse(value: object, unit: str, where: str) -> float:
    """Number in `unit` of a text such as '5.8 ms'.

    Raises
    ------
    NetworkError
        If there is no number, no unit, or a unit of another dimension.
    """
    if isinstance(value, bool) or not isinstance(value, str):
        raise NetworkError(f"{value!r} has no unit", where=where, remedy=f"Write for example '{value} {unit}'.")
    import pint

    try:
        quantity = _registry().Quantity(value)
        if quantity.unitless:
            raise NetworkError(f"'{value}' has no unit", where=where, remedy=f"Write '{value} {unit}'.")
        number = float(quantity.to(unit).magnitude)
    except pint.DimensionalityError:
        raise NetworkError(f"'{value}' is not in units of {unit}", where=where,
                           remedy=f"Give a value in {unit}.") from None
    except NetworkError:
        raise
    except Exception:
        raise NetworkError(f"'{value}' is not a quantity", where=where,
                           remedy=f"Write for example '1.5 {unit}'.") from None
    if not math.isfinite(number):
        raise NetworkError(f"'{value}' is not a finite quantity", where=where)
    return number


def text(value: float, unit: str) -> str:
    """The quantity as text that `parse` reads back to the same number."""
    return f"{float(value)!r} {unit}"
