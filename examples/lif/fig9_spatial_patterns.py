"""Linear stability of the ring: rate model by Lambert W, then interpolation to spiking (Senk et al. 2020)."""

import numpy as np
import show
from fig8_mapping_to_rate_model import mapped

from automfm_hpc import lif

WAVES = np.arange(1.0, 100.0, 0.5)  # 1/mm
BRANCHES = (-3, -2, -1, 0, 1, 2)


def numbers():
    net, point, _, fit = mapped(10.0, 10.0)
    mode = lif.most_unstable(net, fit, WAVES, branches=BRANCHES)
    p = lif.space.profile(mode.wave_number, net.width)
    rate = lif.rate_kernel(lif.rate_weights(net, fit), fit.tau, net.delay, p)
    path = lif.follow(rate, lif.spiking_kernel(net, point, p), mode.eigenvalue, np.linspace(0.0, 1.0, 5))
    return {"wave_number_per_mm": mode.wave_number, "frequency_Hz": mode.frequency, "stable": mode.stable,
            "growth_rate_model_per_s": 1e3 * path[0].real, "growth_spiking_model_per_s": 1e3 * path[-1].real,
            "frequency_spiking_Hz": 1e3 * abs(path[-1].imag) / (2 * np.pi)}  # fmt: skip


def curves():
    net, _, _, fit = mapped(10.0, 10.0)
    table = lif.dispersion(net, fit, WAVES, branches=BRANCHES)
    return {f"branch {b}": (WAVES, 1e3 * row.real) for b, row in zip(BRANCHES, table, strict=True)}


if __name__ == "__main__":
    show.run(numbers, curves, "Growth rates of the ring", "wave number (1/mm)", "growth rate (1/s)")
