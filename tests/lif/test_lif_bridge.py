"""LIF populations as transfer functions of the general mean field."""

import numpy as np
import pytest

from automfm_hpc import lif
from automfm_hpc.errors import LIFError
from automfm_hpc.lif import bridge


@pytest.mark.parametrize("method", ["shift", "expansion"])
def test_transfer_functions_equal_the_theory_and_their_derivatives_hold(method):
    net = lif.LIFNetwork.load("microcircuit")
    rates = np.linspace(1.0, 8.0, 8)
    F, J = lif.transfer(net, rates, method=method)
    everything = dict(zip((*net.populations, *bridge.input_names(net)), (*rates, *net.nu_ext), strict=True))
    for i, tf in enumerate(bridge.transfer_functions(net, method=method)):
        nu = np.array([everything[a] for a in tf.axes])
        value, gradient, hessian = tf.derivatives(nu)
        assert value == pytest.approx(F[i], rel=1e-12)
        own = [net.index(a) for a in tf.axes if a in net.populations]
        np.testing.assert_allclose(gradient[: len(own)], J[i, own], rtol=1e-10)
        h = 1e-3
        steps = h * np.eye(nu.size)
        numeric = (tf.derivatives(nu + steps)[1] - tf.derivatives(nu - steps)[1]) / (2 * h)
        np.testing.assert_allclose(hessian, numeric, rtol=1e-4, atol=1e-4 * np.abs(hessian).max())
        again = bridge.from_dict(tf.to_dict())
        assert again.derivatives(nu)[0] == value and again.axes == tf.axes


def test_mixed_synapses_are_refused():
    net = lif.LIFNetwork.load("microcircuit").replace(tau_syn=np.linspace(0.5, 1.0, 8))
    with pytest.raises(LIFError, match="synaptic time constants"):
        bridge.transfer_functions(net)
