"""Low-pass fits, spatial profiles, linear stability of rate and spiking networks."""

import numpy as np
import pytest

from automfm_hpc import lif
from automfm_hpc.errors import LIFError

FREQUENCY = np.arange(1.0, 200.0)
BRANCHES = (-3, -2, -1, 0, 1, 2)


@pytest.fixture(scope="module")
def ring():
    net = lif.LIFNetwork.load("senk2020")
    net = net.replace(nu_ext=lif.external_rates(net, 10.0, 10.0).nu_ext)
    point = lif.working_point(net)
    fit = lif.fit_low_pass(FREQUENCY, lif.responses(net, point, FREQUENCY, synaptic_filter=True))
    return net, point, fit


def test_low_pass_fit_recovers_a_low_pass():
    for target in ("amplitude", "complex"):
        for tau, gain in ((3.0, 5.0), (-2.0, 4.0), (0.7, -2.0)):
            fit = lif.fit_low_pass(FREQUENCY, gain / (1 + 2e-3j * np.pi * FREQUENCY * tau), target=target)
            np.testing.assert_allclose([fit.tau[0], fit.gain[0]], [tau, gain], rtol=1e-7)


def test_defect_low_pass_fit_works_on_numpy_2_and_equals_nnmt(ring, monkeypatch):
    general = pytest.importorskip("nnmt").lif.exp
    net, point, fit = ring
    H = lif.responses(net, point, FREQUENCY, synaptic_filter=True) * 1e3
    arguments = (H, 2 * np.pi * FREQUENCY, 5e-3, net.J * 1e-3, net.K)
    if not hasattr(np, "complex_"):
        with pytest.raises(AttributeError):
            general._fit_transfer_function(*arguments)
        monkeypatch.setattr(np, "complex_", np.complex128, raising=False)
    _, tau, weights, error = general._fit_transfer_function(*arguments)
    np.testing.assert_allclose(fit.tau, tau * 1e3, rtol=1e-5)
    np.testing.assert_allclose(lif.rate_weights(net, fit), weights, rtol=1e-5)
    np.testing.assert_allclose(fit.error, error, rtol=1e-3)


def test_profiles_are_fourier_transforms():
    x = np.linspace(-8, 8, 160001)
    k, w = np.array([0.0, 0.7, 2.0, 9.0]), 0.5
    shapes = {
        "boxcar": np.where(np.abs(x) <= w, 0.5 / w, 0.0),
        "gaussian": np.exp(-(x**2) / (2 * w**2)) / (w * np.sqrt(2 * np.pi)),
        "exponential": np.exp(-np.abs(x) / w) / (2 * w),
    }
    for kind, shape in shapes.items():
        exact = [np.trapezoid(shape * np.cos(q * x), x) for q in k]
        np.testing.assert_allclose(lif.space.profile(k, w, kind), exact, atol=2e-4)
    with pytest.raises(LIFError, match="unknown profile"):
        lif.space.profile(1.0, 1.0, "box")


def test_lambert_eigenvalues_solve_the_characteristic_equation():
    w, tau, d = np.array([[2.0, -3.0], [1.5, -2.5]]), 4.0, 1.5
    for b in BRANCHES:
        for z in lif.lambert_eigenvalues(w, tau, d, b):
            M = w * np.exp(-z * d) / (1 + z * tau)
            assert abs(np.linalg.det(np.eye(2) - M)) < 1e-9 * np.linalg.norm(M) ** 2
    np.testing.assert_allclose(
        lif.lambert_eigenvalues(w, tau, 0.0).real.max(), (np.linalg.eigvals(w).real.max() - 1) / tau
    )
    with pytest.raises(LIFError, match="one tau for all"):
        lif.lambert_eigenvalues(w, [4.0, 5.0], d)
    with pytest.raises(LIFError, match="square"):
        lif.lambert_eigenvalues(w[:1], tau, d)


def test_most_unstable_mode_of_the_ring(ring):
    net, _, fit = ring
    mode = lif.most_unstable(net, fit, np.arange(1.0, 100.0, 0.5), branches=BRANCHES)
    assert mode.eigenvalue.real == pytest.approx(0.0400729, abs=1e-6) and not mode.stable
    assert mode.frequency == pytest.approx(209.14, abs=0.05) and mode.wave_number == pytest.approx(19.073, abs=0.01)
    stability = pytest.importorskip("nnmt.linear_stability")
    spatial = pytest.importorskip("nnmt.spatial")
    c = lif.rate_weights(net, fit) * spatial._ft_spatial_profile_boxcar(mode.wave_number * 1e3, net.width * 1e-3)
    theirs = stability._solve_chareq_lambertw_constant_delay(mode.branch, fit.tau * 1e-3, net.delay * 1e-3, c)
    assert mode.eigenvalue * 1e3 == pytest.approx(complex(theirs), rel=1e-9)


def test_interpolation_from_rate_to_spiking_model(ring):
    net, point, fit = ring
    mode = lif.most_unstable(net, fit, np.arange(1.0, 100.0, 0.5), branches=BRANCHES)
    p = lif.space.profile(mode.wave_number, net.width)
    rate, spiking = (
        lif.rate_kernel(lif.rate_weights(net, fit), fit.tau, net.delay, p),
        lif.spiking_kernel(net, point, p),
    )
    shares = np.linspace(0.0, 1.0, 5)
    table = lif.dispersion(net, fit, [mode.wave_number], branches=BRANCHES)[:, 0]
    ends = []
    for start in table:
        path = lif.follow(rate, spiking, start, shares)
        assert path[0] == pytest.approx(start, rel=1e-8)
        for share, z in zip(shares, path, strict=True):
            M = lif.mixed_kernel(rate, spiking, share)(z)
            assert abs(np.linalg.det(np.eye(2) - M)) < 1e-8
        ends.append(path[-1])
    order = [b for _, b in sorted(zip([-z.real for z in ends], BRANCHES, strict=True))]
    assert set(order[:2]) == {-1, 0}
    assert max(ends, key=lambda z: z.real).real == pytest.approx(0.0738975, abs=1e-6)
    with pytest.raises(LIFError, match="no eigenvalue found"):
        lif.solve_characteristic(lambda z: np.full((1, 1), 0.5), 1.0)
