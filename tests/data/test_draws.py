"""Draws are a pure function of their counters, and look random."""

import numpy as np

from frz.data import draws


def test_splitmix64_reference_sequence():
    # first outputs of SplitMix64 for the seed 1234567, as published with its reference code
    expected = np.array([6457827717110365317, 3203168211198807973, 9817491932198370423], dtype=np.uint64)
    values = draws.subkeys(np.array([1234567], dtype=np.uint64), np.arange(3))
    np.testing.assert_array_equal(values, expected)


def test_draw_depends_on_its_counters_only():
    keys = draws.keys(3, 1, np.arange(100))
    np.testing.assert_array_equal(draws.keys(3, 1, np.array([40, 7])), keys[[40, 7]])
    np.testing.assert_array_equal(draws.uniform(keys, 5)[40], draws.uniform(keys[40:41], 5)[0])


def test_uniform_is_open_even_and_uncorrelated():
    keys = draws.keys(0, 2, np.arange(400))
    u = draws.uniform(keys[:, None], np.arange(500))
    assert u.min() > 0
    assert u.max() < 1
    counts = np.histogram(u, bins=50, range=(0, 1))[0]
    chi2 = ((counts - u.size / 50) ** 2 / (u.size / 50)).sum()
    assert 20 < chi2 < 95  # 49 degrees of freedom
    noise = 5 / np.sqrt(u.size)
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < noise
    assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < noise


def test_seeds_give_other_sequences():
    a, b = (draws.uniform(draws.keys(seed, 0, np.arange(20000)), 0) for seed in (0, 1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(a.size)


def test_normals_have_unit_width_and_are_independent():
    x, y = draws.normals(draws.keys(0, 3, np.arange(200_000)), 0)
    for z in (x, y):
        assert abs(z.mean()) < 0.012
        assert abs(z.std() - 1) < 0.01
        assert abs((z**4).mean() - 3) < 0.1
    assert abs((x * y).mean()) < 0.012
    assert abs((x**2 * y**2).mean() - 1) < 0.03
    np.testing.assert_array_equal(draws.normal(draws.keys(0, 3, np.arange(200_000)), 0), x)
