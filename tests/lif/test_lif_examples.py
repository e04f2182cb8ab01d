"""The figures of Layer et al. 2022 in examples/lif: their numbers."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "lif"


def numbers(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    try:
        return importlib.import_module(name).numbers()
    finally:
        for module in ("show", *(p.stem for p in FOLDER.glob("fig*.py"))):
            sys.modules.pop(module, None)


def test_usage(monkeypatch):
    out = numbers("fig2_usage", monkeypatch)
    np.testing.assert_allclose(out["rates_Hz"], 18.28991, rtol=1e-6)
    assert out["stable"] and np.diff(out["rate_over_input_Hz"]).min() > 0


def test_response_nonlinearities(monkeypatch):
    out = numbers("fig3_response_nonlinearities", monkeypatch)
    assert all(case["complete"] for case in out.values())
    count = {name: len(case["rates_Hz"]) for name, case in out.items()}
    assert {n for n, c in count.items() if c == 3} == {
        "saturation-driven multi-solution at 5 Hz", "saturation-driven multi-solution at 15 Hz",
        "mean-driven multi-solution at 1 Hz", "mean-driven multi-solution at 3 Hz",
        "noise-driven multi-solution at 2 Hz",
    }  # fmt: skip
    # Response-onset supersaturation: the excitatory rate falls while the input grows.
    ros = [out[f"response-onset supersaturation at {nu} Hz"]["rates_Hz"][0][0] for nu in (10, 30)]
    np.testing.assert_allclose(ros, [0.72527, 0.22957], atol=1e-4)
    np.testing.assert_allclose(
        out["saturation-driven nonlinearity at 100 Hz"]["rates_Hz"][0], [385.20046, 283.83616], atol=1e-4
    )
    assert out["noise-driven multi-solution at 2 Hz"]["stable"] == [True, False, True]


def test_microcircuit_rates(monkeypatch):
    out = numbers("fig4_microcircuit_rates", monkeypatch)
    np.testing.assert_array_equal(
        np.round(out["theory_Hz"], 3), [0.754, 2.794, 4.440, 5.823, 7.154, 8.470, 1.160, 7.756]
    )
    np.testing.assert_allclose(out["theory_Hz"], out["simulation_Hz"], atol=0.6)
    assert out["fixed_points"] == 1 and out["stable"]


def test_frequency_response(monkeypatch):
    out = numbers("fig5_frequency_response", monkeypatch)
    rates = [round(float(p["rate_Hz"])) for p in out.values()]
    assert rates == [10, 30, 10, 30]  # the working points were chosen for these rates
    assert all(p["at_100_Hz"] < p["at_zero_Hz_per_mV"] and -60 < p["phase_at_100_Hz_deg"] < 0 for p in out.values())


def test_power_spectra(monkeypatch):
    out = numbers("fig6_power_spectra", monkeypatch)
    assert set(np.round(out["low_gamma_peaks_Hz"])) == {63.0}
    assert min(out["high_gamma_peaks_Hz"]) > 262 and max(out["high_gamma_peaks_Hz"]) < 284.5


def test_sensitivity(monkeypatch):
    out = numbers("fig7_sensitivity", monkeypatch)
    assert out["frequency_Hz"] == pytest.approx(63.0, abs=0.11)
    peaks = [out[f"peak with {s} more 4I->4I"] for s in ("0%", "5%", "10%")]
    np.testing.assert_allclose([p["frequency_Hz"] for p in peaks], [63.0, 60.2, 57.3], atol=0.15)
    assert peaks[0]["power_Hz"] > 3 * peaks[1]["power_Hz"] > 3 * peaks[2]["power_Hz"]


def test_mapping_to_rate_model(monkeypatch):
    out = numbers("fig8_mapping_to_rate_model", monkeypatch)
    star = out["mean 10 sd 10"]
    np.testing.assert_allclose(star["external_Hz"], [95504.4687, 15718.5993], rtol=1e-7)
    np.testing.assert_allclose(
        [star["rate_Hz"], star["tau_ms"], star["w_E"]], [55.219505, 1.938016, 2.734867], rtol=1e-6
    )
    assert len(out) == 16 and max(p["fit_error"] for p in out.values()) < 0.01


def test_spatial_patterns(monkeypatch):
    out = numbers("fig9_spatial_patterns", monkeypatch)
    assert not out["stable"]
    assert out["wave_number_per_mm"] == pytest.approx(19.073, abs=0.01)
    assert out["frequency_Hz"] == pytest.approx(209.14, abs=0.05)
    assert out["growth_rate_model_per_s"] == pytest.approx(40.073, abs=0.01)
    assert out["growth_spiking_model_per_s"] == pytest.approx(73.898, abs=0.01)
    assert out["frequency_spiking_Hz"] == pytest.approx(199.97, abs=0.05)
