"""Lag, adaptation and chance: against closed forms, and recovered from responses that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.signal import welch

from automfm_hpc.cell_response import (
    ASKED,
    DRIVEN,
    LAW,
    OUT,
    OWN,
    CellResponse,
    at_rest,
    cells_of,
    fire,
    follow,
    forgotten,
    shape_of,
)
from automfm_hpc.cell_response_fit import fit_response
from automfm_hpc.errors import FitError, MeanFieldError
from automfm_hpc.measured_dynamics import slow_errors
from automfm_hpc.response import compiled

ONE = np.ones((1, 1))


def response(lag=1.0, rho=2.0, slow=50.0, cv=1.0, rising=None, bound=1.0, depth=1.0, lateness=0.0, pause=0.0):
    more = {"bound": bound * ONE, "depth": depth * ONE, "lateness": lateness * ONE, "pause": pause * ONE}
    more |= {} if rising is None else {"rising": rising * ONE}
    return CellResponse(10.0 * ONE, lag * ONE, rho * ONE, slow * ONE, cv * ONE, **more)


@compiled
def follow_on(cells, f, h, nu, inner):
    out = np.empty(f.size)
    for k in range(f.size):
        follow(cells, 0, f[k], 1e6, h, nu, inner, forgotten(h))
        out[k] = nu[0]
    return out


@compiled
def course(cells, f, h, start):
    nu = np.array([start])
    return follow_on(cells, f, h, nu, at_rest(nu))


def small(cells, frequency, amplitude, h, window):
    """Gain of a sinusoid around 50 Hz, amplitude in Hz, over the ms of a window, and by how much its mean is off 50."""
    t = np.arange(0.0, window[1], h)
    wave = np.exp(2j * np.pi * frequency * t / 1000.0)
    out, late = course(cells, 50.0 + amplitude * wave.real, h, 50.0) - 50.0, t >= window[0]
    return 2.0 / amplitude * np.mean(out[late] * wave[late].conj()), out[late].mean()


@compiled
def spikes(cells, rate, N, h, seed):
    """Activity of N cells whose rate is `rate` (n_step,)."""
    np.random.seed(seed)
    nu, chance, out = np.zeros(1), np.zeros((2, 1)), np.empty(rate.size)
    for k in range(rate.size):
        nu[0] = rate[k]
        out[k] = fire(cells, 0, N, h, nu, rate[0], chance)
    return out


@settings(max_examples=20, deadline=None)
@given(lag=st.floats(0.2, 5.0), rho=st.floats(0.5, 4.0), slow=st.floats(20.0, 200.0), frequency=st.floats(1.0, 60.0))
def test_small_modulations_pass_with_the_closed_form(lag, rho, slow, frequency):
    h, periods = 0.05, 4 + int(4.0 * frequency)
    window = 1000.0 * (periods - 2) / frequency, 1000.0 * periods / frequency
    measured, _ = small(cells_of(response(lag, rho, slow)), frequency, 1.0, h, window)
    # The rate of a step's end follows the input of its beginning; all transients have died.
    expected = shape_of(np.array([frequency]), lag, rho, slow)[0, 0]
    settled = np.exp(-0.4 * (window[0] + h) / slow)  # no mode is slower
    assert abs(measured - expected) < 0.02 * abs(expected) + settled + 2e-3, (measured, expected)


@pytest.mark.parametrize("lag", [0.05, 0.5, 4.0])
@pytest.mark.parametrize("frequency", [10.0, 60.0, 190.0])
def test_steps_as_long_as_the_lag_do_not_move_waves(lag, frequency):
    """Half a millisecond's step: taking the target's new value for all of it would be a quarter of one early."""
    measured, _ = small(cells_of(response(lag, 1.0)), frequency, 0.5, 0.5, (1000.0, 2000.0))
    expected = shape_of(np.array([frequency]), lag, 1.0, 50.0)[0, 0]
    assert abs(np.degrees(np.angle(measured / expected))) < 0.5  # where a quarter of a millisecond is 1 to 17 degrees
    assert abs(measured) == pytest.approx(abs(expected), rel=0.04)


def test_a_small_step_shows_rho_fold_and_decays_to_its_own_size():
    h = 0.05
    out = course(cells_of(response(0.2, 3.0, 60.0)), np.full(40000, 10.5), h, 10.0)
    assert out[round(1.0 / h)] - 10.0 == pytest.approx(3.0 * 0.5, rel=0.08)
    assert out[-1] == pytest.approx(10.5, rel=1e-6)


def at_once(f, z, rho, bound):
    """Rate right after f has jumped, while z is what it was; 0.5 Hz is where adaptation ends."""
    return (f + 0.5) * np.exp((rho - 1.0) * bound * np.tanh(np.log((f + 0.5) / (z + 0.5)) / bound)) - 0.5


@pytest.mark.parametrize(("bound", "depth"), [(0.3, 1.0), (1.0, 0.3), (5.0, 5.0)])
def test_a_large_step_is_answered_by_a_power_of_its_ratio_up_to_bounds_of_rises_and_falls(bound, depth):
    """Less what z has moved in five lags."""
    h = 0.02
    cells = cells_of(response(0.2, 3.0, 600.0, bound=bound, depth=depth))
    out = course(cells, np.full(round(12000.0 / h), 20.0), h, 10.0)
    assert out[round(1.0 / h)] == pytest.approx(at_once(20.0, 10.0, 3.0, bound), rel=0.025)
    assert out[-1] == pytest.approx(20.0, rel=1e-3)
    down = course(cells, np.full(round(1.0 / h), 5.0), h, 10.0)
    assert down[-1] == pytest.approx(at_once(5.0, 10.0, 3.0, depth), rel=0.025)


def test_an_answer_out_of_silence_stays_below_the_bound():
    """Of cells whose currents never move."""
    out = course(cells_of(response(0.2, 3.0, 1e12, bound=0.4)), np.full(100, 20.0), 0.1, 0.0)
    assert out.max() == pytest.approx(20.5 * np.exp(2.0 * 0.4) - 0.5, rel=0.03)
    assert out.max() <= at_once(20.0, 0.0, 3.0, 0.4) * (1.0 + 1e-9)  # of rounding


def test_currents_that_are_not_there_yet_add_to_an_answer_out_of_silence():
    """Beside the bound they let f count (G/z)^((rho - 1) alpha)-fold, G being 1/ASKED of z at most."""
    out = course(cells_of(response(0.2, 3.0, 60.0, bound=0.4)), np.full(1000, 20.0), 0.1, 0.0)
    assert at_once(20.0, 0.0, 3.0, 0.4) < out.max() <= at_once(20.0, 0.0, 3.0, 0.4) * ASKED ** (-2.0 * DRIVEN)


def written(t, state, drive, c):
    """The equations as `cell_response` writes them, of logarithms m and u and of z, G, Z, c and the mean."""
    m, u, z, G, Z, out, mean = state
    f, g, q = drive(t), np.exp(u) - 0.5, 0.5
    D = (f + q) * ((G + q) / (z + q)) ** ((c["rho"] - 1.0) * 0.4)
    T = c["lag"]
    if np.log(D) > u:
        late = c["rising"] * max(1.0, (mean + q) / (g + q)) ** c["lateness"]
        T = min(late, max(c["rising"], min(120.0 / mean, 10.0))) * min(1.0, ((mean + q) / D) ** 0.5)
    x = np.log((g + q) / (z + q))
    b = c["bound"] if x > 0 else c["depth"]
    a = max((g + q) * np.exp((c["rho"] - 1.0) * (b * np.tanh(x / b) - 0.3 * np.log((z + q) / (Z + q)))) - q, 0.0)
    nu = a * (1.0 - min(c["pause"] * out / 1e3, 0.9)) / (1.0 - min(c["pause"] * a / 1e3, 0.9))
    tau = c["slow"]
    return [2.0 * (np.log(D) - m) / T, 2.0 * (m - u) / T, (nu - z) / tau, (f - G) / (0.3 * tau), (nu - Z) / (2.0 * tau),
            (nu - out) / (0.5 * c["pause"]), (nu - mean) / 100.0], nu  # fmt: skip


@pytest.mark.parametrize("rho", [0.7, 1.5, 3.0])
def test_a_strong_wave_is_followed_as_the_equations_are_written(rho):
    """Against an integrator of scipy: a wave of 30 Hz from 4 to 96 Hz that grows and shrinks five times a second."""
    c = {"lag": 0.4, "rho": rho, "slow": 45.0, "rising": 1.0, "bound": 0.3, "depth": 1.0, "lateness": 1.5, "pause": 4.0}

    def drive(t):
        slowly = np.sin(2.0 * np.pi * t / 200.0)
        return 40.0 * (1.0 + 0.2 * slowly) * np.exp((1.2 + 0.2 * slowly) * np.sin(2.0 * np.pi * t / 33.0) - 0.4)

    f0, h, end = drive(0.0), 0.02, 600.0
    start = [np.log(f0 + 0.5)] * 2 + [f0] * 5
    exact = solve_ivp(lambda t, y: written(t, y, drive, c)[0], (0.0, end), start, rtol=1e-7, atol=1e-8, max_step=0.2,
                      t_eval=np.arange(1.0, end, 1.0))
    nu = np.array([written(t, y, drive, c)[1] for t, y in zip(exact.t, exact.y.T, strict=True)])
    t = (np.arange(round(end / h)) + 1.0) * h
    found = course(cells_of(response(cv=1.0, **c)), drive(t), h, f0)[np.round(exact.t / h).astype(int) - 1]
    assert nu.max() > 2.0 * nu.mean()
    assert np.abs(found - nu).max() < 0.02 * nu.max()


def test_rates_stay_between_silence_and_the_limit():
    cells = cells_of(response(0.2, 5.0, 60.0))
    out = course(cells, np.concatenate([np.full(2000, 100.0), np.zeros(4000)]), 0.1, 50.0)
    assert out.min() >= 0.0 and out[-1] < 1e-9


def test_the_lag_is_one_of_the_logarithm():
    """After a jump the rate is the geometric, not arithmetic, mean of both when the low-passes are half way."""
    lag, h = 4.0, 0.01
    out = course(cells_of(response(lag, 1.0, 50.0)), np.full(round(20.0 / h), 2.0), h, 100.0)
    t = (np.arange(out.size) + 1.0) * h
    part = 1.0 - (1.0 + 2.0 * t / lag) * np.exp(-2.0 * t / lag)  # two low-passes of T/2
    assert np.allclose(out, 100.5 * (2.5 / 100.5) ** part - 0.5, rtol=0.02)
    assert out[np.searchsorted(part, 0.5)] == pytest.approx(np.sqrt(2.5 * 100.5) - 0.5, rel=0.02)


@pytest.mark.parametrize(("start", "end", "lag"), [(50.0, 100.0, 4.0 * np.sqrt(50.5 / 100.5)), (100.0, 1.0, 0.5)])
def test_rises_and_falls_have_lags_of_their_own(start, end, lag):
    """A strong drive brings cells up sooner."""
    h = 0.002
    out = course(cells_of(response(0.5, 1.0, rising=4.0)), np.full(round(20.0 / h), end), h, start)
    t = (np.arange(out.size) + 1.0) * h
    part = 1.0 - (1.0 + 2.0 * t / lag) * np.exp(-2.0 * t / lag)
    assert np.allclose(out, (start + 0.5) * ((end + 0.5) / (start + 0.5)) ** part - 0.5, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("frequency", [10.0, 40.0, 80.0])
def test_small_sinusoids_see_the_mean_of_both_lags(frequency):
    """To first order the difference of the lags moves the mean of the rate and its even harmonics only."""
    cells = response(1.8, 1.0, rising=2.2)
    measured, mean = small(cells_of(cells), frequency, 0.5, 0.02, (500.0, 1000.0))
    expected = cells.response(np.array([frequency]), np.array([10.0]))[0, 0]
    assert measured == pytest.approx(expected, rel=0.01)
    assert expected == shape_of(np.array([frequency]), 2.0, 1.0, 50.0)[0, 0]
    assert -0.1 < mean < -5e-4  # rises come later


@pytest.mark.parametrize(("start", "lateness", "lag"), [(8.0, 1.0, 0.494), (0.55, 1.0, 4.0), (0.55, 0.5, 1.265),
                                                        (0.0, 2.0, 10.0)])  # fmt: skip
def test_rises_out_of_silence_are_as_late_as_the_rate_is_low(start, lateness, lag):
    """T grows with a power of mean over momentary rate, 10.5 over 1.05 of q + g, until 10 ms."""
    cells, h = cells_of(response(0.2, 1.0, rising=0.4, lateness=lateness)), lag / 2000.0
    nu, inner = np.array([start]), at_rest(np.array([start]))
    inner[OWN] = 10.0
    out = follow_on(cells, np.full(200, (start + 0.5) * 1.2 - 0.5), h, nu, inner)
    part = 1.0 - (1.0 + 2.0 * 0.1) * np.exp(-2.0 * 0.1)  # two low-passes of T/2 after a tenth of T: u hardly moves
    assert np.log((out[-1] + 0.5) / (start + 0.5)) == pytest.approx(part * np.log(1.2), rel=0.03)


@pytest.mark.parametrize("f", [12.0, 60.0, 200.0])
@pytest.mark.parametrize("start", [10.0, 1.6])
def test_a_strong_drive_is_followed_sooner_than_a_weak_one(start, f):
    """T falls with the root of what f is above the mean, 10 Hz, and what silence adds to it does, too."""
    cells, h = cells_of(response(0.2, 1.0, rising=1.0, lateness=1.0)), 1e-4
    nu, inner = np.array([start]), at_rest(np.array([start]))
    inner[OWN] = 10.0
    lag = 10.5 / (start + 0.5) * np.sqrt(10.5 / (f + 0.5))
    out = follow_on(cells, np.full(round(0.02 * lag / h), f), h, nu, inner)
    part = 1.0 - (1.0 + 2.0 * 0.02) * np.exp(-2.0 * 0.02)  # after a fiftieth of T
    assert np.log((out[-1] + 0.5) / (start + 0.5)) == pytest.approx(part * np.log((f + 0.5) / (start + 0.5)), rel=0.05)


@pytest.mark.parametrize("pause", [1.0, 4.0])
def test_cells_that_have_fired_are_out_for_a_while(pause):
    """Renewal theory: ready cells that fire with a hazard and are then out for p have x^2/(2 (1 + x)^2) spikes more."""
    cells, h, a = cells_of(response(0.05, 1.0, pause=pause)), 0.01, 100.0
    nu, x = np.array([a]), pause * a / 1000.0 / (1.0 - pause * a / 1000.0)
    inner = at_rest(nu)
    inner[OUT] = 0.0
    out = follow_on(cells, np.full(round(60.0 / h), a), h, nu, inner)
    assert out[0] == pytest.approx(a * (1.0 + x), rel=0.01)
    assert (out - a).sum() * h / 1000.0 == pytest.approx(x**2 / (2.0 * (1.0 + x) ** 2), rel=0.02)
    assert out[-1] == pytest.approx(a, rel=1e-4)


@pytest.mark.parametrize("frequency", [5.0, 40.0, 150.0])
def test_small_sinusoids_see_the_pause(frequency):
    cells = response(0.5, 1.5, 40.0, lateness=1.0, pause=5.0)
    measured, _ = small(cells_of(cells), frequency, 0.2, 0.02, (600.0, 1000.0))
    expected = cells.response(np.array([frequency]), np.array([50.0]))[0, 0]
    assert measured == pytest.approx(expected, rel=0.02)
    bare = response(0.5, 1.5, 40.0).response(np.array([frequency]), np.array([50.0]))[0, 0]
    if frequency > 20.0:
        assert abs(expected) > 1.05 * abs(bare)
    else:  # currents, which follow what the pause lets through, take back what little it adds
        assert abs(expected) == pytest.approx(abs(bare), rel=5e-3)


def test_a_drive_that_would_have_all_cells_out_stays_finite_and_lasting_rates_are_those_of_f():
    out = course(cells_of(response(0.05, 1.0, pause=10.0)), np.full(5000, 400.0), 0.1, 0.0)
    assert np.isfinite(out).all() and out.max() <= 10.0 * 400.0
    assert out[-1] == pytest.approx(400.0, rel=1e-3)


def test_numbers_hold_for_a_wave_and_follow_the_mean_of_the_last_100_ms():
    two = CellResponse(np.array([[10.0, 40.0]]), np.array([[0.1, 0.1]]), np.array([[1.0, 3.0]]), np.array([[1e3, 1e3]]),
                       np.array([[1.0, 1.0]]))
    h = 0.05
    short = course(cells_of(two), np.concatenate([np.full(round(5.0 / h), 40.0)]), h, 10.0)
    assert short[round(1.0 / h)] == pytest.approx(40.0, rel=0.03)  # still rho = 1 of a slow population
    known = two.at(np.array([40.0]))[1, 0]
    jump = np.concatenate([np.full(round(9000.0 / h), 40.0), np.full(round(3.0 / h), 44.0)])
    long = course(cells_of(two), jump, h, 10.0)
    assert long[round(9001.0 / h)] == pytest.approx(at_once(44.0, 40.0, known, 1.0), rel=0.01)


@pytest.mark.parametrize("cv", [1.0, 0.7, 0.5])
def test_noise_has_the_spectrum_of_a_renewal_process(cv):
    """Poisson at high frequencies, CV^2 of it at low ones; gamma renewal (Cox 1962) in between."""
    rate, N, h = 40.0, 100.0, 0.5
    found = spikes(cells_of(response(cv=cv)), np.full(2_000_000, rate), N, h, 1)
    f, power = welch(found, 1000.0 / h, nperseg=4000)
    relative = power / 2.0 * N / rate  # one-sided density; white noise of nu/N is 1
    w = 2.0 * np.pi * np.array([8.0, 20.0, 40.0, 60.0, 300.0])
    p = (1.0 + 1j * w * cv**2 / rate) ** (-1.0 / cv**2)
    exact = (1.0 - abs(p) ** 2) / abs(1.0 - p) ** 2
    assert np.allclose(np.interp(w / 2.0 / np.pi, f, relative), exact, atol=0.2, rtol=0.15)
    assert found.mean() == pytest.approx(rate, rel=2e-3)
    assert np.interp(4.0, f, relative) == pytest.approx(cv**2, rel=0.25, abs=0.03)


def test_infinite_populations_have_no_chance():
    assert (spikes(cells_of(response()), np.full(100, 30.0), np.inf, 0.1, 1) == 30.0).all()


@pytest.mark.parametrize("cv", [1.0, 0.7, 0.4])
def test_chance_in_volleys_is_that_of_trains_on_the_clock_of_the_wave(cv):
    """Silence between volleys adds nothing: counts over many spikes have CV^2 of a Poisson number's variance."""
    h, N, wave = 0.2, 50.0, 500  # one volley of 10 ms in 100
    rate = np.zeros(40_000 * wave // 10)
    rate.reshape(-1, wave)[:, :50] = 120.0
    found = spikes(cells_of(response(cv=cv)), rate, N, h, 2)
    assert found.mean() == pytest.approx(12.0, rel=5e-3)
    counts = found.reshape(-1, 20 * wave).sum(axis=1) * h / 1000.0  # of one cell in 2 s, mean of N
    fano = counts.var() * N / counts.mean()
    assert fano == pytest.approx(cv**2, rel=0.25, abs=0.06)
    within = found.reshape(-1, wave)[:, 50:]
    assert np.abs(within).max() < 0.2 * 120.0  # nobody makes up for chance in silence


@settings(max_examples=25, deadline=None)
@given(lag=st.floats(0.3, 5.0), rho=st.floats(0.9, 4.0), slow=st.floats(15.0, 120.0), seed=st.integers(0, 999))
def test_a_known_response_is_recovered(lag, rho, slow, seed):
    rng = np.random.default_rng(seed)
    f = np.array([0.5, 1.5, 2.5, 4.5, 6.5, 9.5, 13.5, 19.5, 27.5, 39.5, 56.5])
    gain, error = np.array([1.05, 0.9]), np.full((2, f.size), 0.01)
    noise = 0.01 * (rng.standard_normal((2, f.size)) + 1j * rng.standard_normal((2, f.size)))
    fitted = fit_response(f, gain[:, None] * shape_of(f, lag, rho, slow)[:, 0] + noise, error, 43.0)
    model = fitted.gain[:, None] * shape_of(f, fitted.lag, fitted.adaptation, fitted.slow)[:, 0]
    exact = gain[:, None] * shape_of(f, lag, rho, slow)[:, 0]
    assert np.abs(model - exact).max() < 0.08 * np.abs(exact).max()
    assert fitted.gain == pytest.approx(gain, abs=0.08)
    if rho > 1.5 and lag < 1.0 and slow > 30.0:
        assert fitted.adaptation == pytest.approx(rho, rel=0.2)
        assert abs(np.log(fitted.slow / slow)) < 4.0 * fitted.slow_error


def test_cells_that_adapt_tell_their_time_constant_and_others_do_not():
    f = np.array([0.5, 1.5, 2.5, 4.5, 6.5, 9.5, 13.5, 19.5, 27.5, 39.5, 56.5])
    told = [fit_response(f, shape_of(f, 0.5, rho, 40.0).T, np.full((1, f.size), 0.01), 40.0).slow_error
            for rho in (2.5, 1.05)]  # fmt: skip
    assert told[0] < 0.1 and told[1] > 0.4
    found = slow_errors({"populations": {"A": [{"slow_error": 0.3}, {"slow_error": 0.4}], "B": []}})
    assert found == pytest.approx([np.hypot(0.1, 0.24), np.hypot(0.1, 0.5)])


def test_what_was_not_measured_is_left_out():
    f = np.array([1.0, 5.0, 20.0, 50.0])
    known = shape_of(f, 1.0, 2.0, 50.0)[:, 0]
    fitted = fit_response(f, np.stack([known, np.full(4, np.nan)]), np.full((2, 4), 0.01), 50.0)
    assert fitted.gain[0] == pytest.approx(1.0, abs=0.05) and np.isnan(fitted.gain[1])
    with pytest.raises(FitError, match="no source"):
        fit_response(f, np.full((1, 4), np.nan + 0j), np.full((1, 4), 0.1), 50.0)


@pytest.mark.parametrize(("change", "said"), [
    ({"lag": np.ones((2, 2))}, "one shape"), ({"slow": -ONE}, "above 0"), ({"adaptation": np.nan * ONE}, "finite"),
    ({"pause": -ONE}, "below 0"), ({"lateness": -ONE}, "below 0"),
])  # fmt: skip
def test_impossible_numbers_are_refused(change, said):
    good = {"knots": ONE, "lag": ONE, "adaptation": ONE, "slow": ONE, "irregularity": ONE}
    with pytest.raises(MeanFieldError, match=said):
        CellResponse(**(good | change))


def test_numbers_of_other_equations_are_refused():
    kept = response(0.5, rising=2.0).to_arrays()
    again = CellResponse.from_arrays(kept)
    assert (again.lag, again.rising, again.mean_lag) == (0.5, 2.0, 1.25)
    for law in (1, LAW - 1, LAW + 1):
        with pytest.raises(MeanFieldError, match=rf"version {law}, .*automfm fit RUN"):
            CellResponse.from_arrays(kept | {"law": np.array([law])})
    del kept["law"]  # models saved before there was a number
    with pytest.raises(MeanFieldError, match="version 1"):
        CellResponse.from_arrays(kept)
