"""Comparisons of rates: where they warn, and what they leave open."""

from __future__ import annotations

import numpy as np
import xarray

from automfm_hpc.comparison import fluctuations_matter


def rates(first: list[list[float]], second: list[list[float]]) -> xarray.Dataset:
    """(n_drive, n_population) at order 1 and 2."""
    return xarray.Dataset({"rate": (("order", "drive", "population"), np.array([first, second]))},
                          {"order": [1, 2], "population": ["A", "B"], "drive_x": ("drive", [4.0, 8.0, 16.0])})


def test_populations_that_need_their_fluctuations_are_named():
    said = fluctuations_matter(rates([[6.0, 3.0], [10.0, 7.0], [21.0, 10.0]], [[10.0, 3.1], [12.0, 7.0], [20.0, 10.0]]))
    assert said == ["A: without fluctuations (order 1) it would be off by -40 to -17 % at 2 of 3 drives "
                    "(x 4 to 8 Hz): use order 2 there"]
    one = fluctuations_matter(rates([[1.0, 3.0], [2.0, 7.0], [4.0, 9.0]], [[1.0, 3.0], [2.0, 7.0], [4.0, 12.0]]))
    assert one == ["B: without fluctuations (order 1) it would be off by -25 % at 1 of 3 drives (x 16 Hz): "
                   "use order 2 there"]


def test_a_tenth_of_a_hertz_is_no_matter():
    assert fluctuations_matter(rates([[0.0, 0.15]] * 3, [[0.09, 0.1]] * 3)) == []


def test_where_the_network_is_known_order_two_is_not_trusted_blindly():
    """At 8 Hz order 2 is off by 60 % and order 1 by 5; at 16 Hz both are off, at 4 Hz order 2 is right."""
    orders = rates([[6.0, 3.0], [21.0, 7.0], [26.0, 10.0]], [[10.0, 3.0], [8.0, 7.0], [16.0, 10.0]])
    known = {"A": np.array([10.0, 20.0, 40.0]), "B": np.array([3.0, np.nan, 10.0])}
    misled, needed = fluctuations_matter(orders, known)
    assert misled == ("A: with fluctuations (order 2) it is off by -60 % at 1 of 3 drives (x 8 Hz), without (order 1) "
                      "by less than half of that: its dynamics do not swing as the network does; use order 1 there, "
                      "or dynamics=False (automfm run --no-dynamics)")
    assert needed.startswith("A: without fluctuations") and "at 2 of 3 drives" in needed
