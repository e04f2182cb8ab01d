"""First steps: an EI network from a dictionary, its working point, and how it changes with the input."""

import numpy as np
import show

from automfm_hpc import lif

NETWORK = {
    "populations": ["E", "I"], "N": [8000, 2000], "K": [[800, 200], [800, 200]],
    "C": {"val": 250.0, "unit": "pF"}, "tau_m": {"val": 10.0, "unit": "ms"}, "tau_r": {"val": 2.0, "unit": "ms"},
    "tau_s": {"val": 0.5, "unit": "ms"}, "V_0_abs": {"val": -65.0, "unit": "mV"},
    "V_th_abs": {"val": -50.0, "unit": "mV"}, "W": {"val": [[87.8, -526.8], [87.8, -526.8]], "unit": "pA"},
    "W_ext": {"val": [87.8, 87.8], "unit": "pA"}, "K_ext": [1600, 1600], "nu_ext": {"val": [8.0, 8.0], "unit": "Hz"},
}  # fmt: skip
INPUT = np.linspace(4.0, 20.0, 17)


def scan():
    net = lif.LIFNetwork.load(NETWORK)
    return [lif.working_point(net.replace(nu_ext=np.full(2, nu))) for nu in INPUT]


def numbers():
    point = lif.working_point(lif.LIFNetwork.load(NETWORK))
    return {"rates_Hz": point.rates, "mean_mV": point.mean, "sd_mV": point.sd, "stable": point.fixed_point.stable,
            "rate_over_input_Hz": [p.rates[0] for p in scan()]}  # fmt: skip


def curves():
    return {"E": (INPUT, np.array([p.rates[0] for p in scan()]))}


if __name__ == "__main__":
    show.run(numbers, curves, "Rates of an EI network", "external rate (Hz)", "rate (Hz)")
