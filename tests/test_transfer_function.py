"""Transfer functions: values, exact derivatives, bounds, continuation, and storage."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.special import erfc

from automfm_hpc import Network, remap
from automfm_hpc.errors import FitError
from automfm_hpc.moments import RATE_FLOOR, membrane, moments
from automfm_hpc.remap import Cell
from automfm_hpc.template import COEFFICIENTS, regressors
from automfm_hpc.transfer_function import KINDS, Spline, Template, TransferFunction, evaluate, from_dict

MODELS = ("cerebellum", "adex_cortex", "brunel")
CELLS = {cell.population: cell for name in MODELS for cell in remap(Network.load(name)).cells}
PSC = {"C_m": 250.0, "tau_m": 15.0, "E_L": -70.0, "V_th": -50.0, "V_reset": -70.0, "t_ref": 2.0}
CELLS["psc_exp"] = Cell("psc_exp", "iaf_psc_exp", PSC, tuple(replace(c, weight=20.0) for c in CELLS["RS"].channels))
CELLS["psc_alpha"] = replace(CELLS["psc_exp"], model="iaf_psc_alpha")
CELLS["aeif_alpha"] = replace(CELLS["RS"], model="aeif_cond_alpha")
SEEDS = st.integers(0, 99)
RATES = st.lists(st.floats(3.0, 75.0), min_size=3, max_size=3)
ANY_RATES = st.lists(st.floats(-5.0, 1e4), min_size=3, max_size=3)
CELLS["lif_cond"] = Cell("lif_cond", "iaf_cond_exp", PSC | {"g_L": 16.0}, CELLS["RS"].channels)


def _template(cell: Cell, kind: str, rng: np.random.Generator) -> Template:
    """A template that fires at about half its highest rate in the middle of the domain."""
    names, n_axis = COEFFICIENTS[kind], len(cell.axes)
    middle = float(moments(cell, np.full(n_axis, 40.0)).mu_V)
    P = np.concatenate([[middle], rng.normal(size=len(names) - 1)])
    return Template(cell.population, cell.axes, np.array([[1.0, 80.0]] * n_axis), membrane(cell),
                    dict(zip(names, P, strict=True)))  # fmt: skip


def _spline(cell: Cell, rng: np.random.Generator) -> Spline:
    n = len(cell.axes)
    return Spline(cell.population, cell.axes, np.array([[1.0, 80.0]] * n), rng.normal(2.0, 4.0, (7, 6, 5, 4)[:n]),
                  rng.uniform(5.0, 200.0, n), 1.5, 2.0)  # fmt: skip


def _make(cell: Cell, kind: str, seed: int) -> TransferFunction:
    rng = np.random.default_rng(seed)
    return _spline(cell, rng) if kind == "spline" else _template(cell, kind, rng)


def _differences(f, nu: np.ndarray, step: float = 2e-3) -> np.ndarray:
    """Fourth-order central differences of f by each axis, last."""
    parts = []
    for unit in np.eye(nu.size) * step:
        near, far = f(nu + unit) - f(nu - unit), f(nu + 2 * unit) - f(nu - 2 * unit)
        parts.append((8.0 * near - far) / (12.0 * step))
    return np.stack(parts, axis=-1)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(CELLS)), st.sampled_from(KINDS), SEEDS, RATES)
def test_gradient_and_hessian_agree_with_differences(name: str, kind: str, seed: int, rates: list[float]) -> None:
    tf = _make(CELLS[name], kind, seed)
    nu = np.array(rates[: len(tf.axes)])
    rate, gradient, hessian = tf.derivatives(nu)
    assert gradient == pytest.approx(_differences(tf, nu), rel=1e-6, abs=1e-7 * (1 + rate))
    # A cubic spline's third derivative jumps at knots, so differences across one are of first order.
    slack = (1e-4 if kind == "spline" else 1e-7) * (1.0 + np.abs(gradient).max() + np.abs(hessian).max())
    assert hessian == pytest.approx(_differences(tf.gradient, nu), rel=1e-6, abs=slack)
    assert np.array_equal(hessian, hessian.T)


@pytest.mark.parametrize("kind", COEFFICIENTS)
@pytest.mark.parametrize("name", CELLS)
def test_template_is_the_formula_of_its_moments(name: str, kind: str) -> None:
    tf = _make(CELLS[name], kind, 3)
    assert isinstance(tf, Template)
    nu = np.random.default_rng(0).uniform(0.0, 90.0, (20, len(tf.axes)))
    at = moments(tf.membrane, nu + RATE_FLOOR)
    V_eff = regressors(kind, tf.membrane, at) @ np.array([tf.coefficients[n] for n in COEFFICIENTS[kind]])
    expected = 500.0 / at.tau_V * erfc((V_eff - at.mu_V) / (np.sqrt(2.0) * at.sigma_V))
    assert tf(nu) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_spline_is_a_tensor_product_of_scipy_splines() -> None:
    tf = _make(CELLS["GoC"], "spline", 5)
    assert isinstance(tf, Spline)
    nu = np.random.default_rng(0).uniform(1.0, 80.0, (30, 3))
    c = np.broadcast_to(tf.coefficients, (30, *tf.coefficients.shape))
    for axis, (origin, step, _) in enumerate(tf.knots):
        n = tf.coefficients.shape[axis]
        knots = origin + step * np.arange(-3, n + 1)
        B = BSpline.design_matrix(np.log1p(nu[:, axis] / tf.scale[axis]), knots, 3).toarray()
        c = np.einsum("pi...,pi->p...", c, B)
    top = 1000.0 / tf.t_ref / tf.r0
    assert tf(nu) == pytest.approx(tf.r0 * (np.logaddexp(0, c) - np.logaddexp(0, c - top)), rel=1e-10)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(CELLS)), st.sampled_from(KINDS), SEEDS, ANY_RATES)
def test_rates_are_finite_and_bounded_everywhere(name: str, kind: str, seed: int, rates: list[float]) -> None:
    tf = _make(CELLS[name], kind, seed)
    nu = np.array(rates[: len(tf.axes)])
    rate, gradient, hessian = tf.derivatives(nu)
    assert np.all(np.isfinite(gradient)) and np.all(np.isfinite(hessian))
    if isinstance(tf, Spline):
        highest = 1000.0 / tf.t_ref
    else:
        assert isinstance(tf, Template)
        highest = 1000.0 / moments(tf.membrane, np.maximum(nu, 0.0) + RATE_FLOOR).tau_V
    assert 0.0 <= rate <= highest * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("population", ["GrC", "GoC", "BC", "PC"])
def test_no_input_gives_a_finite_rate_although_the_membrane_is_nearly_undamped(population: str, kind: str) -> None:
    tf = _make(CELLS[population], kind, 1)
    for value in tf.derivatives(np.zeros(len(tf.axes))):
        assert np.all(np.isfinite(value))


@settings(max_examples=30, deadline=None)
@given(SEEDS, RATES, st.integers(0, 2), st.booleans())
def test_spline_continues_with_continuous_slope(seed: int, rates: list[float], axis: int, upper: bool) -> None:
    tf, nu = _make(CELLS["PC"], "spline", seed), np.array(rates)
    nu[axis] = tf.domain[axis, int(upper)]
    shift = np.eye(3)[axis] * 1e-7
    for out, inside in zip(tf.derivatives(nu + shift)[:2], tf.derivatives(nu - shift)[:2]):
        assert out == pytest.approx(inside, rel=1e-4, abs=1e-4)
    beyond = nu + np.eye(3)[axis] * (200.0 if upper else -0.9)
    assert tf.gradient(beyond) == pytest.approx(_differences(tf, beyond, 1e-3), rel=1e-5, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["GoC", "PC", "RS", "E"]), st.sampled_from(KINDS), st.permutations([0, 1, 2]), SEEDS)
def test_order_of_axes_does_not_matter(name: str, kind: str, order: list[int], seed: int) -> None:
    tf = _make(CELLS[name], kind, seed)
    axes, inverse = tuple(tf.axes[i] for i in order), np.argsort(order)
    if isinstance(tf, Spline):
        turned = replace(tf, axes=axes, scale=tf.scale[order], coefficients=tf.coefficients.transpose(order))
    else:
        assert isinstance(tf, Template)
        turned = replace(tf, axes=axes, membrane=replace(tf.membrane, axis=inverse[tf.membrane.axis]))
    nu = np.array([13.0, 27.0, 41.0])
    one, other = tf.derivatives(nu), turned.derivatives(nu[order])
    assert other[0] == pytest.approx(one[0], rel=1e-9)
    assert other[1] == pytest.approx(one[1][order], rel=1e-8, abs=1e-12)
    assert other[2] == pytest.approx(one[2][np.ix_(order, order)], rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_axes_and_pathways(kind: str) -> None:
    cell = CELLS["RS"]
    names = ("aff", "b", "c", "d")
    channels = tuple(replace(cell.channels[i % 3], name=n + str(i), source=n) for i, n in enumerate((*names, "aff")))
    for n in (1, 2, 4):
        part = Cell("X", cell.model, cell.parameters, tuple(c for c in channels if c.source in names[:n]))
        tf = _make(part, kind, n)
        nu = np.linspace(20.0, 50.0, n)
        assert tf.gradient(nu) == pytest.approx(_differences(tf, nu), rel=1e-6, abs=1e-6)
        assert tf.hessian(nu) == pytest.approx(_differences(tf.gradient, nu), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_storage_and_batches(kind: str) -> None:
    tf = _make(CELLS["PC"], kind, 4)
    data = tf.to_dict()
    plain = json.loads(json.dumps(data, default=lambda a: a.tolist(), allow_nan=False))
    nu = np.random.default_rng(1).uniform(1.0, 80.0, (2, 3, 3))
    again = from_dict(plain)
    assert np.array_equal(again(nu), tf(nu)) and again.kind == kind and again.axes == tf.axes
    assert tf.hessian(nu).shape == (2, 3, 3, 3) and tf.gradient(nu).shape == (2, 3, 3)
    ints, floats = tf.packed()
    assert ints.dtype == np.int64 and floats.dtype == np.float64 and ints.ndim == floats.ndim == 1
    g, h = np.empty(3), np.empty((3, 3))
    assert evaluate(ints, floats, nu[0, 1], g, h) == tf(nu)[0, 1]
    assert np.array_equal(g, tf.gradient(nu)[0, 1])
    assert tf.inside([[1.0, 80.0, 5.0], [0.5, 80.0, 5.0]]).tolist() == [True, False]


def test_gain_multiplies_the_template() -> None:
    tf = _make(CELLS["PC"], "template5", 0)
    assert isinstance(tf, Template)
    nu = np.array([10.0, 40.0, 40.0])
    for one, other in zip(tf.derivatives(nu), replace(tf, alpha=2.51).derivatives(nu)):
        assert other == pytest.approx(2.51 * one, rel=1e-12)


def test_wrong_shapes_kinds_and_coefficients_are_named() -> None:
    tf = _make(CELLS["GrC"], "spline", 0)
    with pytest.raises(FitError, match=r"transfer function of GrC.*last axis must be 2"):
        tf(np.zeros(3))
    with pytest.raises(FitError, match="Did you mean 'spline'"):
        from_dict(tf.to_dict() | {"kind": "spine"})
    with pytest.raises(FitError, match="belong to no template"):
        Template("GrC", tf.axes, tf.domain, membrane(CELLS["GrC"]), {"offset": 1.0})
