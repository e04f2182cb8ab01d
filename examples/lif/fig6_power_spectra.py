"""Power spectra of the microcircuit with the parameters of Bos et al. 2016.

The linear theory has a growing mode near 284 Hz there, beyond the frequencies where the theory of exponential
synapses holds; the published spectra ignore it, hence check_stability=False.
"""

import numpy as np
import show

from automfm_hpc import lif

FREQUENCY = np.arange(0.1, 500.0, 1 / (2 * np.pi))


def spectra():
    net = lif.LIFNetwork.load("bos2016")
    point = lif.working_point(net, method="expansion")
    return net, point, lif.power_spectra(net, point, FREQUENCY, check_stability=False)


def numbers():
    net, point, S = spectra()
    low, high = (FREQUENCY > 30) & (FREQUENCY < 100), FREQUENCY > 150
    return {"populations": net.populations, "rates_Hz": point.rates, "growing_modes": lif.unstable_modes(net, point),
            "low_gamma_peaks_Hz": FREQUENCY[low][S[low].argmax(axis=0)],
            "high_gamma_peaks_Hz": FREQUENCY[high][S[high].argmax(axis=0)]}  # fmt: skip


def curves():
    net, _, S = spectra()
    return {name: (FREQUENCY, np.log10(S[:, k])) for k, name in enumerate(net.populations)}


if __name__ == "__main__":
    show.run(numbers, curves, "Microcircuit power spectra", "frequency (Hz)", "log10 power (Hz)")
