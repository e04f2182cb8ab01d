"""Theory of networks of leaky integrate-and-fire neurons: rates, spectra and stability without simulation.

    from automfm_hpc import lif
    net = lif.LIFNetwork.load("microcircuit")          # or an NNMT yaml file, or a dictionary
    point = lif.working_point(net)                     # self-consistent rates, inputs, stability
    lif.power_spectra(net, point, frequency)           # Hz

Everything is a pure function of arrays and frozen descriptions; potentials are in mV relative to the leak
potential, times in ms, rates and frequencies in Hz, matrices are indexed [target, source].
"""

from automfm_hpc.lif import binary, space
from automfm_hpc.lif.batch import RatesOfMany, rates_of_many
from automfm_hpc.lif.delays import delay_factor, delay_factors
from automfm_hpc.lif.fixed_points import FixedPoint, FixedPoints, fixed_points, self_consistent_rates, transfer
from automfm_hpc.lif.growth import GrowingMode, growing_modes
from automfm_hpc.lif.inputs import (
    InputStatistics,
    current_contributions,
    effective_tau_syn,
    input_statistics,
    mean_contributions,
    mean_input,
    sd_input,
    variance_contributions,
)
from automfm_hpc.lif.irregularity import cv
from automfm_hpc.lif.lowpass import LowPass, fit_low_pass, rate_weights
from automfm_hpc.lif.modes import (
    Branches,
    Sensitivity,
    branches,
    critical_frequency,
    critical_sensitivities,
    sensitivity,
)
from automfm_hpc.lif.network import LIFNetwork, built_in
from automfm_hpc.lif.pairwise import (
    Covariances,
    pairwise_covariances,
    pairwise_effective_connectivity,
    spectral_bound,
)
from automfm_hpc.lif.partials import rate_partials
from automfm_hpc.lif.rates import (
    RateDerivatives,
    current_to_mean,
    firing_rate,
    input_rate_derivative,
    rate_derivatives,
)
from automfm_hpc.lif.response import frequency_response
from automfm_hpc.lif.response_partials import response_partials
from automfm_hpc.lif.spectra import (
    LIFWarning,
    cross_spectra,
    effective_connectivity,
    power_spectra,
    propagator,
    responses,
    trusted_frequency,
    unstable_modes,
)
from automfm_hpc.lif.stability import (
    Mode,
    dispersion,
    follow,
    lambert_eigenvalues,
    mixed_kernel,
    most_unstable,
    rate_kernel,
    solve_characteristic,
    spiking_kernel,
)
from automfm_hpc.lif.working_point import ExternalRates, WorkingPoint, cvs, external_rates, working_point

__all__ = [
    "Branches", "Covariances", "ExternalRates", "FixedPoint", "FixedPoints", "GrowingMode", "InputStatistics",
    "LIFNetwork", "LIFWarning", "LowPass", "Mode", "RateDerivatives", "RatesOfMany", "Sensitivity",
    "WorkingPoint", "binary", "branches", "built_in", "critical_frequency", "critical_sensitivities",
    "cross_spectra", "current_contributions", "current_to_mean", "cv", "cvs", "delay_factor", "delay_factors",
    "dispersion", "effective_connectivity", "effective_tau_syn", "external_rates", "firing_rate",
    "fit_low_pass", "fixed_points", "follow", "frequency_response", "growing_modes", "input_rate_derivative",
    "input_statistics", "lambert_eigenvalues", "mean_contributions", "mean_input", "mixed_kernel",
    "most_unstable", "pairwise_covariances", "pairwise_effective_connectivity", "power_spectra", "propagator",
    "rate_derivatives", "rate_kernel", "rate_partials", "rate_weights", "rates_of_many", "response_partials",
    "responses", "sd_input", "self_consistent_rates", "sensitivity", "solve_characteristic", "space", "spectral_bound",
    "spiking_kernel", "transfer", "trusted_frequency", "unstable_modes", "variance_contributions",
    "working_point",
]  # fmt: skip
