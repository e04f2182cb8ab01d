"""Delays, effective connectivity, spectra, stability, eigenvalue branches and sensitivity."""

import mpmath as mp
import numpy as np
import pytest
from lif_reference import response

from automfm_hpc import lif
from automfm_hpc.errors import LIFError
from automfm_hpc.lif.spectra import invert

FREQUENCY = np.arange(0.1, 500.0, 1 / (2 * np.pi))


@pytest.fixture(scope="module")
def bos():
    net = lif.LIFNetwork.load("bos2016")
    return net, lif.working_point(net, method="expansion")


def power(W, point, net):
    P = invert(W)
    return np.einsum("fij,j,fij->fi", P, point.rates / net.N, P.conj()).real


@pytest.mark.parametrize("delayed", [False, True])
def test_bos_peaks(bos, delayed):
    net, point = bos
    S = power(lif.effective_connectivity(net, point, FREQUENCY, delayed_reset=delayed), point, net)
    low, high = (FREQUENCY > 30) & (FREQUENCY < 100), FREQUENCY > 150
    assert set(np.round(FREQUENCY[low][S[low].argmax(axis=0)])) == {63.0}
    peaks = FREQUENCY[high][S[high].argmax(axis=0)]
    assert 262 < peaks.min() < 263 and 284 < peaks.max() < 284.5


def test_bos_critical_eigenvalue(bos):
    net, point = bos
    k = np.argmin(np.abs(FREQUENCY - 62.97))
    values = np.linalg.eigvals(lif.effective_connectivity(net, point, FREQUENCY[k], delayed_reset=False))
    critical = values[np.argmin(np.abs(values - 1))]
    assert np.round(critical, 4) == 0.9595 + 0.0432j and round(FREQUENCY[k], 2) == 62.97
    found = lif.critical_sensitivities(net, point, FREQUENCY[:1000])
    gamma = [s for s in found if 50 < s.frequency < 80 and abs(s.eigenvalue - 1) < 0.1]
    assert len(gamma) == 1 and np.round(gamma[0].eigenvalue, 4) == 0.9589 + 0.0436j
    f, value = lif.critical_frequency(net, point, 63.0)
    assert f == pytest.approx(62.97, abs=0.1) and abs(value - 1) <= abs(gamma[0].eigenvalue - 1)


def test_spectra_equal_nnmt(bos):
    exp = pytest.importorskip("nnmt").lif.exp
    net, point = bos
    f = np.array([5.0, 63.0, 150.0])
    W = lif.effective_connectivity(net, point, f, delayed_reset=False)
    tf = exp._transfer_function(
        point.mean * 1e-3, point.sd * 1e-3, 10e-3, 0.5e-3, 2e-3, 15e-3, 0.0, 2 * np.pi * f, method="taylor"
    )
    from nnmt import network_properties

    D = network_properties._delay_dist_matrix(
        net.delay * 1e-3, net.delay_sd * 1e-3, "truncated_gaussian", 2 * np.pi * f
    )
    theirs = exp._effective_connectivity(tf, D, net.J * 1e-3, net.K, 10e-3)
    np.testing.assert_allclose(W, theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        power(W, point, net), exp._power_spectra(point.rates, theirs, net.J * 1e-3, net.K, net.N, 10e-3), rtol=1e-9
    )
    ours = lif.sensitivity(W[1], 63.0)
    ref = exp._sensitivity_measure(theirs, 63.0, f, "None", "None")
    np.testing.assert_allclose(ours.sensitivity, ref["sensitivity"], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(ours.amplitude, ref["sensitivity_amp"], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(ours.frequency_shift, ref["sensitivity_freq"], rtol=1e-7, atol=1e-10)


def test_sensitivity_is_the_derivative_of_the_eigenvalue(bos):
    net, point = bos
    W = lif.effective_connectivity(net, point, 63.0)
    found = lif.sensitivity(W, 63.0)
    for i, j in ((3, 3), (0, 2), (3, 0)):
        values = []
        for h in (-1e-5, 1e-5):
            changed = W.copy()
            changed[i, j] *= 1 + h
            every = np.linalg.eigvals(changed)
            values.append(every[np.argmin(np.abs(every - found.eigenvalue))])
        assert found.sensitivity[i, j] == pytest.approx((values[1] - values[0]) / 2e-5, abs=1e-7)
    assert found.sensitivity.sum() == pytest.approx(found.eigenvalue, rel=1e-10)


def test_branches_are_continuous_and_complete():
    f = np.linspace(0.0, 1.0, 400)
    truth = np.stack([np.exp(2j * np.pi * f), 0.3 + 0.8 * f + 0j, 1.1 - 0.8 * f + 0.02j], axis=1)
    rng = np.random.default_rng(0)
    V = rng.normal(size=(3, 3))
    W = np.einsum("ij,fj,jk->fik", V, truth, np.linalg.inv(V))
    found = lif.branches(f, W)
    for b in range(3):
        column = np.argmin(np.abs(truth[0] - found.eigenvalues[0, b]))
        np.testing.assert_allclose(found.eigenvalues[:, b], truth[:, column], atol=1e-9)


def test_nyquist_counts_growing_modes(bos):
    brunel = lif.LIFNetwork.load("brunel2000")
    assert lif.unstable_modes(brunel, lif.working_point(brunel)) == 0
    net, point = bos
    assert lif.unstable_modes(net, point) == 2  # the linear theory of this network has a growing mode at 284 Hz

    def det(z):
        return np.linalg.det(np.eye(8) - lif.effective_connectivity(net, point, z))

    z = 284.0 - 6.0j
    for _ in range(30):
        z -= det(z) / ((det(z + 1e-4) - det(z - 1e-4)) / 2e-4)
    assert (
        abs(det(z)) < 1e-9 and z.real == pytest.approx(284.32, abs=0.01) and z.imag == pytest.approx(-6.342, abs=0.01)
    )
    (mode,) = lif.growing_modes(net, point)
    assert mode.frequency == pytest.approx(z.real, rel=1e-9)
    assert mode.growth == pytest.approx(-2 * np.pi * z.imag, rel=1e-8)
    # At 284 Hz the theory of the synapses does not hold (2 pi f tau_syn = 0.9): the figure comes with a warning.
    with pytest.warns(lif.LIFWarning, match=r"modes grow at 284.3 Hz.*above the 159 Hz"):
        lif.power_spectra(net, point, [10.0])


def test_a_growing_mode_within_the_theory_is_an_error():
    net = lif.LIFNetwork.load("brunel2000")
    J = np.array(net.J)
    J[:, 1] *= 1.6  # inhibition that oscillates with its delay
    unstable = net.replace(J=J, delay=np.full((2, 2), 3.0))
    point = lif.working_point(unstable)
    modes = lif.growing_modes(unstable, point)
    assert modes and modes[0].growth > 0
    with pytest.raises(LIFError, match=r"modes grow at .* Hz.*check_stability"):
        lif.power_spectra(unstable, point, [10.0])
    assert lif.growing_modes(net, lif.working_point(net)) == ()


def test_the_growing_mode_solves_the_delay_system_of_mpmath(bos):
    """det(1 - W) at the complex frequency found, from responses and truncated Gaussian delays done in mpmath."""
    net, _ = bos
    point = lif.working_point(net)
    (mode,) = lif.growing_modes(net, point)

    def determinant(z):
        s = 2j * mp.pi * z / 1000
        W = mp.matrix(8, 8)
        factor = {}
        for d, e in {(d, e) for d, e in zip(net.delay.ravel(), net.delay_sd.ravel(), strict=True)}:
            weight, value = (
                mp.quad(lambda t, k=k, d=d, e=e: mp.exp(-((t - d) ** 2) / (2 * e * e) - k * s * t),
                        mp.linspace(0, d + 12 * e, 12)) for k in (0, 1)
            )  # fmt: skip
            factor[d, e] = value / weight
        for i in range(8):
            cell = {k: float(v[i]) for k, v in net.neuron().items()}
            n = response(z, float(point.mean[i]), float(point.sd[i]), float(point.tau_syn[i]), cell)
            for j in range(8):
                d = factor[net.delay[i, j], net.delay_sd[i, j]]
                W[i, j] = n * 1e-3 * net.tau_m[i] * net.J[i, j] * net.K[i, j] * d / (1 + s * net.tau_syn[j])
        return mp.det(mp.eye(8) - W)

    with mp.workdps(20):
        z = mp.mpc(mode.frequency, -mode.growth / (2 * np.pi))
        slope = (determinant(z + 1e-3) - determinant(z - 1e-3)) / 2e-3
        assert abs(determinant(z) / slope) < 1e-6  # the zero lies nearer than 1e-6 Hz


def test_cross_spectra_are_hermitian_and_need_sizes():
    calm = lif.LIFNetwork.load("brunel2000")
    S = lif.cross_spectra(calm, lif.working_point(calm), [1.0, 50.0])
    np.testing.assert_allclose(S, np.swapaxes(S.conj(), 1, 2), rtol=1e-12)
    with pytest.raises(LIFError, match="sizes N"):
        lif.power_spectra(calm.replace(N=None), lif.working_point(calm), [1.0])


@pytest.mark.parametrize("kind", ["none", "gaussian", "truncated_gaussian"])
def test_delay_factors_equal_nnmt(kind):
    properties = pytest.importorskip("nnmt").network_properties
    f = np.array([0.0, 1.0, 30.0, 300.0, 2000.0])
    theirs = properties._delay_dist_matrix(np.array([[1.5e-3]]), np.array([[0.75e-3]]), kind, 2 * np.pi * f).ravel()
    np.testing.assert_allclose(lif.delay_factor(f, 1.5, 0.75, kind), theirs, rtol=1e-12, atol=1e-14)


def test_defect_lognormal_delays():
    # NNMT returns 0 at f = 0 and the conjugate elsewhere.
    f = np.array([0.1, 30.0, 1000.0, -30.0])
    with mp.workdps(20):
        mu, width = mp.log(1.5) - mp.log(1.25) / 2, mp.sqrt(mp.log(1.25))
        exact = [
            complex(mp.quad(
                lambda z, w=w: mp.exp(-2e-3j * mp.pi * w * mp.exp(mu + width * z) - z * z / 2) / mp.sqrt(2 * mp.pi),
                mp.linspace(-8, 8, 40),
            ))
            for w in map(float, f)
        ]  # fmt: skip
    np.testing.assert_allclose(lif.delay_factor(f, 1.5, 0.75, "lognormal"), exact, rtol=1e-10, atol=1e-12)
    assert lif.delay_factor(0.0, 1.5, 0.75, "lognormal") == 1.0
    with pytest.raises(LIFError, match="lognormal delay has no transform"):
        lif.delay_factor(5.0j, 1.5, 0.75, "lognormal")


def test_wide_and_narrow_delays_are_stable():
    f = np.array([0.0, 10.0, 1e4])
    for kind in ("gaussian", "truncated_gaussian", "lognormal"):
        np.testing.assert_allclose(lif.delay_factor(f, 1.5, 1e-6, kind), np.exp(-2e-3j * np.pi * f * 1.5), atol=1e-8)
        assert np.isfinite(lif.delay_factor(f, 1.5, 10.0, kind)).all()
    with pytest.raises(LIFError, match="Did you mean 'gaussian'"):
        lif.delay_factor(1.0, 1.0, 1.0, "gaussan")
    with pytest.raises(LIFError, match="mean must be zero or positive"):
        lif.delay_factor(1.0, -1.0)
