"""Networks resolved to single neurons, and binary neurons."""

import numpy as np
import pytest
from lif_reference import CELL

from automfm_hpc import lif
from automfm_hpc.errors import LIFError

CELLS = {**CELL, "tau_syn": 0.5}


def random_network(n=30, scale=0.3, seed=0):
    rng = np.random.default_rng(seed)
    J = scale * rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.3)
    return J, rng.uniform(5, 15, n), rng.uniform(4, 8, n)


def test_pairwise_connectivity_and_covariances_equal_nnmt():
    exp = pytest.importorskip("nnmt").lif.exp
    J, mean, sd = random_network()
    w = lif.pairwise_effective_connectivity(mean, sd, J, **CELLS)
    rate = lif.firing_rate(mean, sd, **CELLS)
    theirs = exp._pairwise_effective_connectivity(rate, mean * 1e-3, sd * 1e-3, J * 1e-3, 0.0, 15e-3, 10e-3, 0.5e-3)
    np.testing.assert_allclose(w, theirs, rtol=1e-9, atol=1e-14)
    assert lif.spectral_bound(w) == pytest.approx(exp._spectral_bound(theirs), rel=1e-9)
    cvs = lif.cv(mean, sd, **CELLS)
    ours = lif.pairwise_covariances(w, rate, cvs)
    np.testing.assert_allclose(ours.matrix, exp._pairwise_covariances(theirs, rate, cvs), rtol=1e-9)
    np.testing.assert_allclose(np.diag(ours.matrix), cvs**2 * rate, rtol=1e-9)


def test_pairwise_errors():
    J, mean, sd = random_network(scale=40.0)
    w = lif.pairwise_effective_connectivity(mean, sd, J, **CELLS)
    with pytest.raises(LIFError, match=r"unstable .spectral bound"):
        lif.pairwise_covariances(w, np.ones(30), np.ones(30))
    with pytest.raises(LIFError, match="square"):
        lif.pairwise_effective_connectivity(mean, sd, J[:5], **CELLS)
    with pytest.raises(LIFError, match="rates must be zero or positive"):
        lif.pairwise_covariances(0 * w, -np.ones(30), np.ones(30))


def binary_network(theta=None):
    J, K = np.array([[1.0, -2.0], [1.0, -1.8]]), np.array([[100.0, 50.0], [100.0, 50.0]])
    return lif.binary.BinaryNetwork.make(
        J, K, lif.binary.balanced_threshold(J, K, [0.1, 0.2]) if theta is None else theta
    )


def test_binary_working_point_is_self_consistent():
    net = binary_network(theta=[1.0, 0.5])
    point = lif.binary.working_point(net)
    np.testing.assert_allclose(lif.binary.mean_activity(point.mean, point.sd, net.theta), point.activity, atol=1e-10)
    np.testing.assert_allclose(lif.binary.mean_input(net, point.activity), point.mean)
    np.testing.assert_allclose(lif.binary.balanced_threshold(net.J, net.K, [0.1, 0.2]), [-10.0, -8.0])


def test_binary_pieces_equal_nnmt():
    theirs = pytest.importorskip("nnmt").binary
    mean, sd = np.array([-1.0, 0.3]), np.array([2.0, 0.5])
    np.testing.assert_allclose(
        lif.binary.mean_activity(mean, sd, 0.2), theirs._mean_activity_for_given_input(mean, sd, 0.2), rtol=1e-12
    )
    net, m = binary_network(), np.array([0.2, 0.3])
    np.testing.assert_allclose(lif.binary.mean_input(net, m), theirs._mean_input(m, net.J, net.K), rtol=1e-12)
    np.testing.assert_allclose(lif.binary.sd_input(net, m), theirs._std_input(m, net.J, net.K), rtol=1e-12)


def test_binary_errors():
    with pytest.raises(LIFError, match="between 0 and 1"):
        lif.binary.mean_input(binary_network(), [0.2, 1.3])
    with pytest.raises(LIFError, match="square"):
        lif.binary.balanced_threshold([[1.0, 2.0]], [[1.0, 2.0]], 0.1)
    with pytest.raises(LIFError, match="no convergence"):
        lif.binary.working_point(binary_network(), max_steps=2)
