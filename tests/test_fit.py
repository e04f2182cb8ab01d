"""Fits: the published grids, known answers, missing points, refusals, and schedulers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from automfm_hpc import Network, remap
from automfm_hpc.errors import FitError
from automfm_hpc.fit import FitResult, RateGrid, fit, fit_all
from automfm_hpc.moments import membrane
from automfm_hpc.network import Distribution
from automfm_hpc.remap import Cell, Channel
from automfm_hpc.template import COEFFICIENTS
from automfm_hpc.transfer_function import Spline, Template

NETWORK = Network.load("cerebellum")
PARAMETERS = remap(NETWORK)
# K, Q (nS), tau_syn (ms), E (mV) that go with the published grids, and their published RMSE (Hz), for
# which that fit needed an output gain of 2.6, 1.8 and 1.8.
PUBLISHED = {
    "GrC": ("GrC", {}, {"mf": (2.024, 0.23, 5.8, 0.0), "GoC": (1.77, 0.36, 13.61, -80.0)}, 1.80),
    "MLI": ("SC", {}, {"GrC": (260.24, 0.07, 0.64, 0.0), "MLI": (6.71, 0.547, 2.0, -80.0)}, 6.67),
    "PC": ("PC", {"I_e": 780.0}, {"GrC": (579.32, 0.275, 1.1, 0.0), "MLI": (4.07, 1.22, 2.8, -80.0)}, 3.41),
}


def _published(name: str) -> tuple[Cell, RateGrid]:
    like, changes, inputs, _ = PUBLISHED[name]
    population, one = NETWORK.population(like), Distribution(1.0)
    channels = tuple(Channel(s, s, (f"{s}->{name}",), Distribution(K), one, Q, tau, E, 1.0)
                     for s, (K, Q, tau, E) in inputs.items())  # fmt: skip
    cell = Cell(name, population.model, dict(population.parameters) | changes, channels)
    with np.load(resources.files("automfm_hpc") / "data" / "published_tf.npz") as data:  # type: ignore[arg-type]
        coordinates = (data[f"{name}_fe"], data[f"{name}_fi"])
        return cell, RateGrid(name, tuple(inputs), coordinates, data[f"{name}_rate"].T)


@pytest.fixture(scope="module")
def published() -> dict[str, FitResult]:
    cells, grids = zip(*(_published(name) for name in PUBLISHED))
    return dict(zip(PUBLISHED, fit_all(cells, grids), strict=True))


@pytest.mark.parametrize("name", PUBLISHED)
def test_fit_without_gain_beats_the_published_error(name: str, published: dict[str, FitResult]) -> None:
    result, bar = published[name], PUBLISHED[name][3]
    assert result.kind == "spline"
    assert result.score.rmse < bar
    assert result.score.cv < bar  # also at points that the fit has not seen
    assert result.score.converged and result.n_points == 400 and result.n_missing == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_template_without_gain_cannot_reach_the_published_grids(name: str, published: dict[str, FitResult]) -> None:
    """It never exceeds 1/tau_V; the published fit multiplies it by 1.8 to 2.6. Recorded, not hidden."""
    scores = published[name].scores
    assert scores["template5"].converged and scores["template10"].converged
    assert scores["template10"].rmse < scores["template5"].rmse
    assert PUBLISHED[name][3] < scores["template10"].rmse < 15.0


# --- synthetic grids ----------------------------------------------------------------------------


def _grid(population: str, rates: np.ndarray, coordinates: tuple[np.ndarray, ...], seed: int = 0) -> RateGrid:
    """Rates with noise of 2 %, at least 0.2 Hz; silent points have a standard error of zero."""
    rng = np.random.default_rng(seed)
    sem = np.where(rates > 1e-3, np.maximum(0.02 * rates, 0.2), 0.0)
    noisy = np.maximum(rates + sem * rng.normal(size=rates.shape), 0.0)
    return RateGrid(population, PARAMETERS.cell(population).axes, coordinates, noisy, sem)


def _mesh(coordinates: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1)


def _template(population: str, P: tuple[float, ...] = (-42.0, 3.0, -2.0, 1.0, 1.0)) -> Template:
    cell = PARAMETERS.cell(population)
    named = dict(zip(COEFFICIENTS["template5"], P, strict=True))
    return Template(population, cell.axes, np.array([[2.0, 80.0]] * len(cell.axes)), membrane(cell), named)


def _softplus_plane(nu: np.ndarray) -> np.ndarray:
    slopes = np.array([0.08, -0.06, 0.05])[: nu.shape[-1]]
    return 40.0 * np.logaddexp(0.0, 1.5 * (nu @ slopes - 0.5))


COORDINATES = (np.linspace(2.0, 80.0, 12), np.linspace(2.0, 80.0, 11))


def test_template_is_recovered_from_noisy_rates() -> None:
    truth = _template("GrC")
    rates = truth(_mesh(COORDINATES))
    result = fit(PARAMETERS.cell("GrC"), _grid("GrC", rates, COORDINATES), kinds=("template5",))
    tf = result.transfer_function
    assert isinstance(tf, Template)
    assert np.sqrt(np.mean((tf(_mesh(COORDINATES)) - rates) ** 2)) < 0.15
    sd = np.sqrt(np.diag(result.covariance))
    for name, error in zip(result.coefficient_names, sd, strict=True):
        assert abs(tf.coefficients[name] - truth.coefficients[name]) < 4.0 * error
    assert result.score.chi2 is not None and 0.5 < result.score.chi2 < 1.5


def test_simplest_sufficient_kind_is_chosen() -> None:
    cell = PARAMETERS.cell("GrC")
    own = fit(cell, _grid("GrC", _template("GrC")(_mesh(COORDINATES)), COORDINATES))
    other = fit(cell, _grid("GrC", _softplus_plane(_mesh(COORDINATES)), COORDINATES))
    assert own.kind == "template5" and other.kind == "spline"
    assert other.score.chi2 is not None and other.score.chi2 < 1.5


def test_three_axes_with_missing_points_and_axes_in_another_order() -> None:
    cell = PARAMETERS.cell("GoC")
    coordinates = tuple(np.linspace(2.0, 80.0, n) for n in (7, 6, 5))
    rates = _softplus_plane(_mesh(coordinates))
    grid = _grid("GoC", rates, coordinates)
    grid.rate[2, 3, :] = np.nan
    grid.rate[-1] = np.nan
    result = fit(cell, grid, kinds=("spline",))
    assert result.n_missing == 30 + 5 and result.n_outside == 30 and result.n_points == 210 - 35
    assert result.transfer_function.domain[0, 1] == coordinates[0][-2]
    assert result.score.chi2 is not None and result.score.chi2 < 2.0
    assert abs(float(result.transfer_function(_mesh(coordinates)[2, 3, 2])) - rates[2, 3, 2]) < 3.0

    order = (2, 0, 1)
    turned = RateGrid("GoC", tuple(grid.axes[i] for i in order), tuple(coordinates[i] for i in order),
                      grid.rate.transpose(order), grid.rate_sem.transpose(order))
    again = fit(cell, turned, kinds=("spline",))
    nu = np.array([20.0, 30.0, 10.0])
    assert float(again.transfer_function(nu)) == pytest.approx(float(result.transfer_function(nu)), rel=1e-3)


@pytest.mark.parametrize("rate", [0.0, 12.0])
def test_constant_rates_are_a_result(rate: float) -> None:
    coordinates = (np.linspace(1.0, 50.0, 5), np.linspace(1.0, 50.0, 4))
    grid = RateGrid("BC", PARAMETERS.cell("BC").axes, coordinates, np.full((5, 4), rate), np.zeros((5, 4)))
    result = fit(PARAMETERS.cell("BC"), grid)
    assert np.asarray(result.transfer_function(_mesh(coordinates))) == pytest.approx(rate, abs=1e-3)
    assert result.noise is None and result.score.chi2 is None


def test_axis_measured_at_one_rate_only() -> None:
    coordinates = (np.linspace(1.0, 50.0, 6), np.array([20.0]))
    grid = _grid("BC", 2.0 * _mesh(coordinates)[..., 0], coordinates)
    result = fit(PARAMETERS.cell("BC"), grid, kinds=("spline",))
    _, gradient, hessian = result.transfer_function.derivatives([25.0, 20.0])
    assert gradient[0] == pytest.approx(2.0, rel=0.1) and gradient[1] == pytest.approx(0.0, abs=0.05)
    assert np.all(np.isfinite(hessian))


# --- schedulers and storage ---------------------------------------------------------------------


def test_result_does_not_depend_on_the_scheduler() -> None:
    distributed = pytest.importorskip("distributed")
    cell, grid = PARAMETERS.cell("GrC"), _grid("GrC", _softplus_plane(_mesh(COORDINATES)), COORDINATES)
    kinds = ("template5", "spline")
    alone = fit(cell, grid, kinds=kinds)
    with ThreadPoolExecutor(2) as executor, distributed.Client(processes=False, dashboard_address=None) as client:
        for scheduler in ("threads", executor, client):
            other = fit(cell, grid, kinds=kinds, pool=scheduler)
            assert isinstance(alone.transfer_function, Spline) and isinstance(other.transfer_function, Spline)
            assert np.array_equal(other.transfer_function.coefficients, alone.transfer_function.coefficients)
            assert other.scores == alone.scores


def test_report_is_plain_json() -> None:
    cell, grid = PARAMETERS.cell("GrC"), _grid("GrC", _template("GrC")(_mesh(COORDINATES)), COORDINATES)
    result = fit(cell, grid, kinds=("template5",))
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["kind"] == "template5" and set(data["coefficients"]) == set(result.coefficient_names)
    assert data["scores"]["template5"]["rmse"] == result.score.rmse


# --- refusals -----------------------------------------------------------------------------------


def test_grid_without_finite_points_is_refused() -> None:
    grid = _grid("GrC", np.full((12, 11), np.nan), COORDINATES)
    with pytest.raises(FitError, match=r"fit of GrC: 0 of 132 grid points have a finite rate.*Simulate"):
        fit(PARAMETERS.cell("GrC"), grid)


def test_fit_that_explains_nothing_is_refused_with_its_numbers() -> None:
    noise = np.random.default_rng(0).exponential(40.0, (12, 11))
    grid = RateGrid("GrC", PARAMETERS.cell("GrC").axes, COORDINATES, noise)
    with pytest.raises(FitError, match=r"fit of GrC: no fit can be trusted.*vary by .* Hz.*template5: .*Hz"):
        fit(PARAMETERS.cell("GrC"), grid, kinds=("template5",))


def test_too_few_points_for_the_kind_is_refused() -> None:
    coordinates = (np.array([1.0, 50.0]), np.array([1.0, 50.0]))
    grid = _grid("GrC", _softplus_plane(_mesh(coordinates)), coordinates)
    with pytest.raises(FitError, match="4 points do not determine 10 coefficients"):
        fit(PARAMETERS.cell("GrC"), grid, kinds=("template10",))


def test_wrong_axes_shapes_and_kinds_are_named() -> None:
    cell, grid = PARAMETERS.cell("GrC"), _grid("GrC", np.ones((12, 11)), COORDINATES)
    with pytest.raises(FitError, match="the grid has axes mf, PC, the cell has mf, GoC"):
        fit(cell, replace(grid, axes=("mf", "PC")))
    with pytest.raises(FitError, match=r"rates of shape \(11, 12\)"):
        fit(cell, replace(grid, rate=grid.rate.T))
    with pytest.raises(FitError, match="Did you mean 'spline'"):
        fit(cell, grid, kinds=("splines",))
