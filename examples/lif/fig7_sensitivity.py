"""Which connections make the low-gamma peak of the microcircuit, and what changing one does (Bos et al. 2016)."""

import numpy as np
import show

from automfm_hpc import lif

FREQUENCY = np.arange(30.0, 100.0, 0.1)


def low_gamma(net, point):
    found = lif.critical_sensitivities(net, point, FREQUENCY)
    return min((s for s in found if 50 < s.frequency < 80), key=lambda s: abs(s.eigenvalue - 1.0))


def more_4I_4I(net, point, share):
    """4I to 4I strengthened by `share`, with external input that keeps the mean input."""
    i = net.index("4I")
    K, K_ext = np.array(net.K), np.array(net.K_ext)
    K_ext[i, i] += share * -net.J[i, i] / net.J_ext[i, i] * K[i, i] * point.rates[i] / net.nu_ext[i]
    K[i, i] *= 1 + share
    return net.replace(K=K, K_ext=K_ext)


def peak(net):
    point = lif.working_point(net, method="expansion")
    S = lif.power_spectra(net, point, FREQUENCY, check_stability=False)[:, net.index("4I")]
    return FREQUENCY[S.argmax()], S.max()


def numbers():
    net = lif.LIFNetwork.load("bos2016")
    point = lif.working_point(net, method="expansion")
    s = low_gamma(net, point)
    i, j = np.unravel_index(np.argmax(np.abs(s.amplitude)), s.amplitude.shape)
    out = {
        "frequency_Hz": s.frequency,
        "eigenvalue": [s.eigenvalue.real, s.eigenvalue.imag],
        "strongest_connection": f"{net.populations[j]}->{net.populations[i]}",
        "its_amplitude_part": s.amplitude[i, j],
    }
    for share in (0.0, 0.05, 0.10):
        f, power = peak(more_4I_4I(net, point, share))
        out[f"peak with {share:.0%} more 4I->4I"] = {"frequency_Hz": f, "power_Hz": power}
    return out


def curves():
    net = lif.LIFNetwork.load("bos2016")
    point = lif.working_point(net, method="expansion")
    out = {}
    for share in (0.0, 0.05, 0.10):
        changed = more_4I_4I(net, point, share)
        S = lif.power_spectra(changed, lif.working_point(changed, method="expansion"), FREQUENCY, check_stability=False)
        out[f"{share:.0%}"] = (FREQUENCY, np.log10(S[:, net.index("4I")]))
    return out


if __name__ == "__main__":
    show.run(numbers, curves, "Low-gamma peak of 4I", "frequency (Hz)", "log10 power (Hz)")
