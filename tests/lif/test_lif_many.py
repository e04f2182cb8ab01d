"""Many points and many networks at once: the same numbers as one by one."""

import numpy as np
import pytest
from lif_reference import CELL, relative, siegert

from automfm_hpc import lif
from automfm_hpc.errors import LIFError


def test_long_columns_equal_single_points_and_mpmath():
    rng = np.random.default_rng(5)
    mean = np.concatenate([np.linspace(-150.0, 300.0, 6000), rng.uniform(-20, 60, 6000)])
    sd = np.concatenate([np.full(6000, 4.0), 10 ** rng.uniform(-2.5, 2.5, 6000)])
    sd[::500] = 0.0
    reset = rng.uniform(-10.0, 14.999, mean.size)
    tau_syn = rng.choice([0.0, 0.5, 3.0], mean.size)
    cell = {**CELL, "V_reset": reset, "tau_syn": tau_syn}
    together = lif.firing_rate(mean, sd, **cell)
    one_by_one = lif.rate_derivatives(mean, sd, **cell).rate
    # Down to 1e-290 Hz: exp(-y^2) carries the rounding of y^2.
    np.testing.assert_allclose(together, one_by_one, rtol=2e-11, atol=1e-290)
    for k in rng.choice(mean.size, 60, replace=False):
        if sd[k] > 0 and together[k] > 1e-200:
            exact = siegert(mean[k], sd[k], tau_syn[k], {**CELL, "V_reset": reset[k]})
            assert relative(together[k], exact) < 1e-9


def test_rates_of_many_networks_equal_those_of_each():
    net = lif.LIFNetwork.load("microcircuit")
    rng = np.random.default_rng(1)
    g = rng.uniform(0.9, 1.4, 20)
    J = np.where(net.J < 0, net.J * g[:, None, None], net.J)
    nu_ext = rng.uniform(6.0, 12.0, (20, 8))
    for method in ("shift", "second_order"):
        found = lif.rates_of_many(net, J=J, nu_ext=nu_ext, method=method)
        assert found.converged.all()
        for k in range(20):
            alone = lif.self_consistent_rates(net.replace(J=J[k], nu_ext=nu_ext[k]), method=method)
            np.testing.assert_allclose(found.rates[k], alone.rates, rtol=1e-13)
            assert found.stable[k] == alone.stable and found.steps[k] == alone.steps
            assert found.growth[k] == pytest.approx(alone.growth, rel=1e-10)


def test_a_member_that_fails_says_so_and_stops_nobody():
    net = lif.LIFNetwork.load("microcircuit")
    alone = lif.self_consistent_rates(net)
    start = [alone.rates, np.zeros(8), alone.rates]
    found = lif.rates_of_many(net, nu_ext=np.full((3, 8), 8.0), start=start, max_steps=5)
    assert found.converged.tolist() == [True, False, True] and np.isnan(found.growth[1]) and not found.stable[1]
    np.testing.assert_allclose(found.rates[[0, 2]], [alone.rates] * 2, rtol=1e-12)


def test_starts_select_the_branch_of_each_member():
    J = np.array([[0.2, -2.08 * 0.2], [0.192, -1.67 * 0.192]])
    net = lif.LIFNetwork(
        populations=("E", "I"), K=np.array([[400.0, 100], [400, 100]]), J=J, V_th=20.0, V_reset=10.0, tau_m=20.0,
        t_ref=2.0, tau_syn=0.0, K_ext=np.full(2, 400.0), J_ext=np.array([0.2, 0.192]), nu_ext=1.0, tau_syn_ext=0.0,
        mean_ext=0.0,
    )  # fmt: skip
    found = lif.rates_of_many(net, start=[[0.0, 0.0], [400.0, 400.0]])
    assert found.stable.all() and found.rates[1].sum() > 700 > found.rates[0].sum()


def test_steep_networks_with_silent_populations_are_followed_to_their_rest():
    net = lif.LIFNetwork.load("microcircuit")
    nu_ext = np.random.default_rng(1).uniform(6.0, 12.0, (200, 8))
    found = lif.rates_of_many(net, nu_ext=nu_ext)
    assert found.converged.all() and found.stable.all() and (found.rates.min(axis=1) < 1e-3).any()
    for k in range(0, 200, 40):
        F, _ = lif.transfer(net.replace(nu_ext=nu_ext[k]), found.rates[k])
        np.testing.assert_allclose(F, found.rates[k], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"nuext": np.ones((2, 8))}, "no field 'nuext'"),
        ({"nu_ext": np.ones(8)}, r"expected \(members, 8\)"),
        ({"nu_ext": np.ones((2, 8)), "mean_ext": np.ones((3, 8))}, r"\[2, 3\] members"),
        ({"nu_ext": -np.ones((2, 8))}, "nu_ext must be zero or positive"),
        ({"V_th": -np.ones((2, 8))}, "V_th must be above V_reset"),
    ],
)
def test_bad_batches_are_refused(changes, word):
    with pytest.raises(LIFError, match=word):
        lif.rates_of_many(lif.LIFNetwork.load("microcircuit"), **changes)
