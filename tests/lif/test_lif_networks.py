"""Networks: parameter files, published rates, every fixed point, working points, and the defects of NNMT."""

import numpy as np
import pytest
import yaml

from automfm_hpc import lif
from automfm_hpc.errors import LIFError

PD14 = [0.754, 2.794, 4.440, 5.823, 7.154, 8.470, 1.160, 7.756]
BOS = [0.6801, 2.6364, 4.2951, 5.6267, 6.6106, 8.2688, 1.0259, 7.5683]


def bistable(nu_ext):
    """The saturation-driven multi-solution network of Sanzeni et al. 2020 as used by Layer et al. 2022."""
    J = np.array([[0.2, -2.08 * 0.2], [0.192, -1.67 * 0.192]])
    return lif.LIFNetwork(
        populations=("E", "I"), K=np.array([[400.0, 100], [400, 100]]), J=J, V_th=20.0, V_reset=10.0, tau_m=20.0,
        t_ref=2.0, tau_syn=0.0, K_ext=np.full(2, 400.0), J_ext=np.array([0.2, 0.192]), nu_ext=nu_ext,
        tau_syn_ext=0.0, mean_ext=0.0,
    )  # fmt: skip


def test_microcircuit_rates_to_all_printed_digits():
    found = lif.self_consistent_rates(lif.LIFNetwork.load("microcircuit"))
    np.testing.assert_array_equal(np.round(found.rates, 3), PD14)
    assert found.stable and found.residual < 1e-12


def test_bos_rates_by_expansion():
    # The printed digits are cut, not rounded; that of 5E is 2e-4 below what the equations give (6.6108).
    found = lif.self_consistent_rates(lif.LIFNetwork.load("bos2016"), method="expansion")
    np.testing.assert_allclose(found.rates, BOS, atol=3e-4)


def test_rates_and_inputs_equal_nnmt():
    exp = pytest.importorskip("nnmt").lif.exp
    net = lif.LIFNetwork.load("microcircuit")
    args = (net.J * 1e-3, net.K, 0.0, 15e-3, 10e-3, 2e-3, 0.5e-3, np.diag(net.J_ext) * 1e-3, np.diag(net.K_ext), 8.0)
    theirs = exp._firing_rates(*args, eps_tol=1e-13, t_max_ODE=10_000, maxiter_ODE=10_000)
    point = lif.working_point(net)
    np.testing.assert_allclose(point.rates, theirs, rtol=1e-9)
    mean = exp._mean_input(theirs, args[0], net.K, 10e-3, args[7], args[8], 8.0) * 1e3
    sd = exp._std_input(theirs, args[0], net.K, 10e-3, args[7], args[8], 8.0) * 1e3
    np.testing.assert_allclose(point.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(point.sd, sd, rtol=1e-9)


def test_brunel_network_is_asynchronous_and_irregular():
    net = lif.LIFNetwork.load("brunel2000")
    point = lif.working_point(net)
    assert point.rates == pytest.approx([37.9497, 37.9497], abs=1e-3)  # 37.7 Hz in Brunel's Fig. 1C (simulation)
    assert (lif.cvs(net, point) > 0.3).all()
    assert lif.unstable_modes(net, point) == 0


def test_input_contributions_sum_to_the_input():
    net = lif.LIFNetwork.load("microcircuit")
    rates = lif.self_consistent_rates(net).rates
    parts = lif.mean_contributions(net, rates)
    np.testing.assert_allclose(parts.sum(axis=1), lif.mean_input(net, rates), rtol=1e-12)
    np.testing.assert_allclose(lif.variance_contributions(net, rates).sum(axis=1), lif.sd_input(net, rates) ** 2)
    np.testing.assert_allclose(lif.current_contributions(net, rates), parts * 25.0)
    assert lif.mean_input(net, np.ones((5, 3, 8))).shape == (5, 3, 8)


def test_all_fixed_points_are_found_with_their_stability():
    found = lif.fixed_points(bistable(15.0))
    assert [p.stable for p in found.points] == [False, False, True] and found.complete
    np.testing.assert_allclose(found.points[0].rates, [27.9414, 59.0726], atol=1e-3)
    np.testing.assert_allclose(found.points[1].rates, [67.0794, 123.0687], atol=1e-3)
    np.testing.assert_allclose(found.points[2].rates, [368.4232, 383.2891], atol=1e-3)
    for p in found.points:
        np.testing.assert_allclose(lif.transfer(bistable(15.0), p.rates)[0], p.rates, rtol=1e-9)


def test_defect_fixed_point_solver_of_nnmt_hides_instability_and_multiplicity():
    delta = pytest.importorskip("nnmt").lif.delta
    net = bistable(10.0)
    theirs = delta._firing_rates(
        net.J, net.K, 10.0, 20.0, 20e-3, 2e-3, np.diag(net.J_ext), np.diag(net.K_ext), 10.0, nu_0=(10, 20),
        fixpoint_method="LSTSQ",
    )  # fmt: skip
    ours = lif.fixed_points(net)
    match = [p for p in ours.points if np.allclose(p.rates, theirs, rtol=1e-3)]
    assert len(match) == 1 and not match[0].stable  # NNMT returns it without a word
    assert len(ours.points) == 3 and len(ours.stable) == 1


def test_solvers_agree_and_start_selects_the_branch():
    net = bistable(1.0)
    low, high = lif.self_consistent_rates(net), lif.self_consistent_rates(net, start=[400.0, 400.0])
    assert low.stable and high.stable and high.rates.sum() > 700 > low.rates.sum()
    middle = lif.self_consistent_rates(net, start=[129.0, 192.0], solver="newton")
    assert not middle.stable and middle.growth > 0


def test_jacobian_equals_finite_differences():
    net = lif.LIFNetwork.load("microcircuit").replace(tau_syn=np.linspace(0.3, 2.0, 8))
    nu = np.linspace(1.0, 8.0, 8)
    for method in ("shift", "expansion"):
        _, jacobian = lif.transfer(net, nu, method=method)
        for j in range(8):
            h = 1e-3 * np.eye(8)[j]
            up, down = (lif.transfer(net, nu + sign * h, method=method)[0] for sign in (1, -1))
            np.testing.assert_allclose(jacobian[:, j], (up - down) / 2e-3, rtol=2e-5, atol=1e-8)


def test_defect_cached_results_keyed_by_print():
    # NNMT keys its cache by printed arrays, which drop small differences; here nothing is cached.
    net = lif.LIFNetwork.load("microcircuit")
    K = np.array(net.K)
    K[3, 3] *= 1 + 1e-9
    one, two = lif.self_consistent_rates(net).rates, lif.self_consistent_rates(net.replace(K=K)).rates
    assert 0 < np.abs(one - two).max() < 1e-6


def test_external_rates_reproduce_the_working_point_and_nnmt():
    net = lif.LIFNetwork.load("senk2020")
    wanted = lif.external_rates(net, 10.0, 10.0)
    np.testing.assert_allclose(wanted.nu_ext, [95504.468701, 15718.599313], rtol=1e-9)
    point = lif.working_point(net.replace(nu_ext=wanted.nu_ext))
    np.testing.assert_allclose([point.mean, point.sd], 10.0, rtol=1e-9)
    exp = pytest.importorskip("nnmt").lif.exp
    two = np.ones(2)
    theirs = exp._external_rates_for_fixed_input(
        10e-3 * two, 10e-3 * two, net.J * 1e-3, net.K, 0 * two, 15e-3 * two, 5e-3 * two, 0 * two, 0.5e-3 * two,
        net.J_ext * 1e-3, np.array([1, 1]),
    )  # fmt: skip
    np.testing.assert_allclose(wanted.nu_ext, theirs, rtol=1e-9)
    with pytest.raises(LIFError, match="no external rates >= 0"):
        lif.external_rates(net, 14.0, 2.0)


def test_built_in_networks_and_nnmt_file_layouts(tmp_path):
    assert lif.built_in() == ("bos2016", "brunel2000", "microcircuit", "senk2020")
    basic = {
        "populations": ["E", "I"], "N": [100, 25], "K": [[40.0, 10.0], [40.0, 10.0]],
        "C": {"val": [250.0, 125.0], "unit": "pF"}, "tau_m": {"val": [0.01, 0.02], "unit": "s"},
        "tau_r": {"val": 2000.0, "unit": "us"}, "tau_s": {"val": [0.5, 0.5], "unit": "millisecond"},
        "V_0_abs": {"val": [-65.0, -65.0], "unit": "mV"}, "V_th_abs": {"val": [-50.0, -50.0], "unit": "mV"},
        "W": {"val": [[87.8, -351.2], [87.8, -351.2]], "unit": "pA"},
        "W_ext": {"val": [[0.0878, -0.16], [0.0878, -0.16]], "unit": "nA"}, "K_ext": [[1600, 1600], [1500, 1500]],
        "nu_ext": {"val": [8.0, 8.0], "unit": "Hz"}, "D_mean": {"val": 1.5, "unit": "ms"},
    }  # fmt: skip
    path = tmp_path / "basic.yaml"
    path.write_text(yaml.safe_dump(basic))
    net = lif.LIFNetwork.load(path)
    np.testing.assert_allclose(net.J, [[0.1756, -0.7024], [0.3512, -1.4048]])
    np.testing.assert_allclose(net.J_ext[0], [0.1756, -0.32])
    np.testing.assert_allclose([net.tau_m, net.t_ref, net.V_th], [[10, 20], [2, 2], [15, 15]])
    assert lif.self_consistent_rates(net).residual < 1e-9
    same = lif.LIFNetwork.load(basic, nu_ext=[8.0, 9.0])
    np.testing.assert_array_equal(same.nu_ext, [8.0, 9.0])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"K": [[1.0, 2.0]]}, "square"),
        ({"K": [[-1.0, 2.0], [1.0, 2.0]]}, "K .in-degrees. must be"),
        ({"nu_ext": {"val": -8.0, "unit": "Hz"}}, "nu_ext must be zero or positive"),
        ({"tau_m": {"val": -10.0, "unit": "ms"}}, "tau_m must be positive"),
        ({"tau_m": {"val": 10.0, "unit": "msec"}}, "unknown unit 'msec'"),
        ({"delay_dist": "gausian"}, "Did you mean 'gaussian'"),
        ({"K_ext": [1, 2, 3], "J_ext": {"val": [0.1, 0.1], "unit": "mV"}}, "do not fit"),
    ],
)
def test_bad_networks_are_refused(change, word):
    good = {
        "populations": ["E", "I"], "K": [[1000, 250], [1000, 250]], "tau_m": {"val": 20.0, "unit": "ms"},
        "V_th_rel": {"val": 20.0, "unit": "mV"}, "V_0_rel": {"val": 10.0, "unit": "mV"},
        "J": {"val": [[0.1, -0.5], [0.1, -0.5]], "unit": "mV"}, "J_ext": {"val": [0.1, 0.1], "unit": "mV"},
        "K_ext": [1000, 1000], "nu_ext": {"val": 20.0, "unit": "Hz"},
    }  # fmt: skip
    assert lif.LIFNetwork.load(good).size == 2
    with pytest.raises(LIFError, match=word):
        lif.LIFNetwork.load({**good, **change})


def test_unknown_words_are_refused(tmp_path):
    net = lif.LIFNetwork.load("brunel2000")
    with pytest.raises(LIFError, match="Did you mean 'microcircuit'"):
        lif.LIFNetwork.load("microcirciut")
    with pytest.raises(LIFError, match="file not found"):
        lif.LIFNetwork.load(tmp_path / "none.yaml")
    with pytest.raises(LIFError, match="'populations' is missing"):
        lif.LIFNetwork.load({"K": [[1.0]]})
    with pytest.raises(LIFError, match="unknown solver"):
        lif.self_consistent_rates(net, solver="ODE2")
    with pytest.raises(LIFError, match="unknown method 'taylr'"):
        lif.working_point(net, method="taylr")
    with pytest.raises(LIFError, match="expected 2"):
        lif.mean_input(net, [1.0, 2.0, 3.0])
    with pytest.raises(LIFError, match="no convergence after 1 steps"):
        lif.self_consistent_rates(net, max_steps=1)
    with pytest.raises(LIFError, match="no field 'nuext'"):
        net.replace(nuext=3.0)
