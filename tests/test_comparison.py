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
