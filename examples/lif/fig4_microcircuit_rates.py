"""Rates of the cortical microcircuit (Potjans & Diesmann 2014), theory beside a simulation of the network."""

import numpy as np
import show

from automfm_hpc import lif

SIMULATED = [0.943, 3.026, 4.368, 5.882, 7.733, 8.664, 1.096, 7.851]  # NEST, Hz


def numbers():
    net = lif.LIFNetwork.load("microcircuit")
    point = lif.working_point(net)
    return {"populations": net.populations, "theory_Hz": point.rates, "simulation_Hz": SIMULATED,
            "cv": lif.cvs(net, point), "stable": point.fixed_point.stable,
            "fixed_points": len(lif.fixed_points(net, starts=64).points)}  # fmt: skip


def curves():
    place = np.arange(8)
    return {"theory": (place, np.asarray(numbers()["theory_Hz"])), "simulation": (place, np.array(SIMULATED))}


if __name__ == "__main__":
    show.run(numbers, curves, "Microcircuit rates", "population", "rate (Hz)")
