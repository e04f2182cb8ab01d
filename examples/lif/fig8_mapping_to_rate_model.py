"""A spiking network on a ring mapped to a rate model by low-pass fits at wanted inputs (Senk et al. 2020)."""

import numpy as np
import show

from automfm_hpc import lif

FREQUENCY = np.arange(1.0, 200.0)
MEANS = SDS = np.arange(6.0, 14.0, 2.0)


def mapped(mean, sd):
    net = lif.LIFNetwork.load("senk2020")
    net = net.replace(nu_ext=lif.external_rates(net, mean, sd).nu_ext)
    point = lif.working_point(net)
    H = lif.responses(net, point, FREQUENCY, synaptic_filter=True)
    return net, point, H, lif.fit_low_pass(FREQUENCY, H)


def numbers():
    out = {}
    for mean in MEANS:
        for sd in SDS:
            net, point, _, fit = mapped(mean, sd)
            out[f"mean {mean:g} sd {sd:g}"] = {
                "external_Hz": net.nu_ext, "rate_Hz": point.rates[0], "tau_ms": fit.tau[0],
                "w_E": lif.rate_weights(net, fit)[0, 0], "fit_error": fit.error[0],
            }  # fmt: skip
    return out


def curves():
    out = {}
    for mean, sd in ((6.0, 6.0), (10.0, 10.0), (12.0, 12.0)):
        _, _, H, fit = mapped(mean, sd)
        out[f"spiking ({mean:g}, {sd:g})"] = (FREQUENCY, np.abs(H[:, 0]))
        out[f"rate model ({mean:g}, {sd:g})"] = (FREQUENCY, np.abs(fit.response(FREQUENCY)[:, 0]))
    return out


if __name__ == "__main__":
    show.run(numbers, curves, "Response and low-pass fit", "frequency (Hz)", "response (Hz/mV)")
