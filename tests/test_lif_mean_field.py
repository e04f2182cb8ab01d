"""A LIF network's theory as a mean field like any other: same solver, same store, same fixed points."""

from __future__ import annotations

import numpy as np

from automfm_hpc import MeanField, lif
from automfm_hpc.lif_mean_field import lif_mean_field


def microcircuit():
    net = lif.LIFNetwork.load("microcircuit")
    return net, lif_mean_field(net)


def test_first_order_settles_at_the_self_consistent_rates():
    net, model = microcircuit()
    drive = dict(zip(model.inputs, net.nu_ext, strict=True))
    point = lif.working_point(net)
    solution = model.solve(drive=drive, duration=0.5, order=1, initial=np.asarray(point.rates))
    np.testing.assert_allclose(solution["rate"].values[-1], point.rates, rtol=1e-6)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    net, model = microcircuit()
    model.save(tmp_path)
    again = MeanField.load(tmp_path)
    nu = np.array(net.nu_ext.tolist() + [5.0] * 8)
    for a, b in zip(model.transfer_functions, again.transfer_functions, strict=True):
        x = nu[: len(a.axes)]
        assert a(x) == b(x)


def test_second_order_stays_finite_and_close():
    net, model = microcircuit()
    drive = dict(zip(model.inputs, net.nu_ext, strict=True))
    point = lif.working_point(net)
    solution = model.solve(drive=drive, duration=0.2, order=2, initial=np.asarray(point.rates))
    assert np.isfinite(solution["covariance"].values).all()
    np.testing.assert_allclose(solution["rate"].values[-1], point.rates, rtol=0.3, atol=0.5)
