"""Frequency response of a neuron with exponential synapses at several working points (Schuecker et al. 2015)."""

import numpy as np
import show

from automfm_hpc import lif

CELL = {"V_th": 20.0, "V_reset": 15.0, "tau_m": 20.0, "t_ref": 0.0, "tau_syn": 0.5}
POINTS = [(16.42, 4.0), (19.66, 4.0), (18.94, 1.5), (20.96, 1.5)]  # mean, sd in mV
FREQUENCY = np.geomspace(0.1, 10**2.8, 500)


def numbers():
    out = {}
    for mean, sd in POINTS:
        zero, ten, hundred = lif.frequency_response([0.0, 10.0, 100.0], mean, sd, **CELL, synaptic_filter=False)
        out[f"mean {mean} sd {sd}"] = {
            "rate_Hz": lif.firing_rate(mean, sd, **CELL), "at_zero_Hz_per_mV": zero.real,
            "at_10_Hz": abs(ten), "at_100_Hz": abs(hundred), "phase_at_100_Hz_deg": np.degrees(np.angle(hundred)),
        }  # fmt: skip
    return out


def curves():
    bare = {**CELL, "synaptic_filter": False}
    return {f"({m}, {s}) mV": (FREQUENCY, np.abs(lif.frequency_response(FREQUENCY, m, s, **bare))) for m, s in POINTS}


if __name__ == "__main__":
    show.run(numbers, curves, "Frequency response", "frequency (Hz)", "response (Hz/mV)")
