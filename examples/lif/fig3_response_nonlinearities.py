"""Response nonlinearities of EI networks (Sanzeni et al. 2020): rates over external input, all fixed points."""

import numpy as np
import show

from automfm_hpc import lif

# g_E, g_I, a_E, a_I, E weight (mV), I weight / E weight, K (E row), K (I row)
CASES = {
    "saturation-driven nonlinearity": (8.0, 7.0, 4.0, 2.0, 0.2, 1.0, (400, 100), (400, 100)),
    "saturation-driven multi-solution": (2.08, 1.67, 1.0, 1.0, 0.2, 0.96, (400, 100), (400, 100)),
    "response-onset supersaturation": (4.5, 2.9, 1.0, 1.0, 0.2, 1.0, (400, 100), (400, 100)),
    "mean-driven multi-solution": (4.1, 2.46, 1.0, 0.2, 0.2, 1.0, (800, 200), (400, 100)),
    "noise-driven multi-solution": (7.0, 6.0, 1.0, 0.7, 0.5, 1.0, (400, 100), (400, 100)),
}
PROBES = {
    "saturation-driven nonlinearity": (20.0, 100.0),
    "saturation-driven multi-solution": (5.0, 15.0, 50.0),
    "response-onset supersaturation": (10.0, 30.0),
    "mean-driven multi-solution": (1.0, 3.0, 8.0),
    "noise-driven multi-solution": (1.0, 2.0, 4.0),
}


def network(case, nu_ext):
    g_E, g_I, a_E, a_I, weight, ratio, K_E, K_I = CASES[case]
    J = weight * np.array([[1.0, -g_E], [ratio, -g_I * ratio]])
    return lif.LIFNetwork(
        populations=("E", "I"), K=np.array([K_E, K_I], float), J=J, V_th=20.0, V_reset=10.0, tau_m=20.0, t_ref=2.0,
        tau_syn=0.0, K_ext=np.array([a_E * K_E[0], a_I * K_I[0]]), J_ext=weight * np.array([1.0, ratio]),
        nu_ext=nu_ext, tau_syn_ext=0.0, mean_ext=0.0,
    )  # fmt: skip


def solutions(case, nu_ext):
    return lif.fixed_points(network(case, nu_ext), starts=64)


def numbers():
    out = {}
    for case, inputs in PROBES.items():
        for nu in inputs:
            found = solutions(case, nu)
            out[f"{case} at {nu:g} Hz"] = {
                "rates_Hz": [p.rates for p in found.points], "stable": [p.stable for p in found.points],
                "complete": found.complete,
            }  # fmt: skip
    return out


def curves():
    out = {}
    for case, inputs in PROBES.items():
        grid = np.linspace(inputs[0], inputs[-1], 20)
        out[case] = (
            grid,
            np.array([lif.self_consistent_rates(network(case, nu), solver="relaxation").rates[0] for nu in grid]),
        )
    return out


if __name__ == "__main__":
    show.run(numbers, curves, "Response nonlinearities", "external rate (Hz)", "rate (Hz)")
