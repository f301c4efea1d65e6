"""The transport against closed forms of its equations."""

import numpy as np
import pytest
from scipy.integrate import quad

from frz.data.muon_sim.field import BARREL_STRENGTH, END_CAP_FIELD, C, field, follow, ripple
from frz.data.muon_sim.stations import STEPS


def test_field_is_that_of_a_toroid_inside_and_zero_outside():
    t = np.array([3.0, 5.5, 8.0, 11.0, 3.0, 6.0, 4.7])
    z = np.array([1.0, 1.0, 9.0, 1.0, 10.0, 10.0, 1.0])
    b = BARREL_STRENGTH
    expected = [0, b / 5.5, b / 8, 0, END_CAP_FIELD, b / 6, b / 4.7 / 2]
    np.testing.assert_allclose(field(t, z), expected, rtol=1e-12)


def test_ripple_averages_to_one_and_is_opposite_in_the_two_systems():
    phi = np.linspace(-np.pi, np.pi, 48, endpoint=False)
    assert ripple(phi, end_cap=False).mean() == pytest.approx(1)
    np.testing.assert_allclose(ripple(phi, end_cap=False) + ripple(phi, end_cap=True), 2)


@pytest.mark.parametrize("momentum", [3.0, -36.0])
def test_barrel_against_the_exact_first_integral(momentum):
    # d(cos theta)/dt = K s / t: cos theta grows with the logarithm of t, and z is its integral
    k, t0, t1, w0 = C / momentum, 5.1, 9.6, 0.3

    def direction(t: float) -> float:
        return w0 + k * BARREL_STRENGTH * np.log(t / t0)

    z = 1.0 + quad(lambda t: direction(t) / np.sqrt(1 - direction(t) ** 2), t0, t1)[0]
    one = np.ones(1)
    got_z, got_w = follow(t0 * one, 1.0 * one, w0 * one, k * one, t1 * one, 12, end_cap=False)
    assert got_w[0] == pytest.approx(direction(t1), abs=1e-6)
    assert got_z[0] == pytest.approx(z, abs=2e-5)


def test_end_cap_against_the_circle():
    k, z0, z1, w0, t0 = C / 10.0, 8.3, 12.5, 0.2, 2.0
    w1 = w0 + k * END_CAP_FIELD * (z1 - z0)
    t1 = t0 - (np.sqrt(1 - w1**2) - np.sqrt(1 - w0**2)) / (k * END_CAP_FIELD)
    one = np.ones(1)
    t, w = follow(z0 * one, t0 * one, w0 * one, k * one, z1 * one, 4, end_cap=True)
    assert w[0] == pytest.approx(w1, abs=1e-9)
    assert t[0] == pytest.approx(t1, abs=1e-7)


def test_no_field_is_a_straight_line():
    n, u, w = np.array([4.4]), np.array([-2.0]), np.array([-0.4])
    got_u, got_w = follow(n, u, w, np.zeros(1), np.array([10.0]), 7, end_cap=False)
    assert got_w[0] == w[0]
    assert got_u[0] == pytest.approx(-2.0 - 5.6 * 0.4 / np.sqrt(1 - 0.16), abs=1e-12)


@pytest.mark.parametrize(
    ("end_cap", "gap", "planes", "u"),
    [
        (False, 0, (4.55, 8.09), 2.0),
        (False, 1, (8.09, 10.57), 3.0),
        (True, 0, (7.27, 10.3), 4.4),
        (True, 1, (10.3, 13.68), 3.0),
    ],
)
def test_steps_follow_the_map_to_a_fraction_of_the_sagitta(end_cap, gap, planes, u):
    start, stop = (np.array([plane]) for plane in planes)
    coarse, fine = (
        follow(start, np.array([u]), np.array([0.35]), np.array([C / 10]), stop, steps, end_cap=end_cap)[0][0]
        for steps in (STEPS[end_cap][gap], 3000)
    )
    assert abs(coarse - fine) < 3e-4
