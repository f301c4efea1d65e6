"""What `fit` measures against numpy on all values at once."""

import numpy as np

from frz.backbones.set_sequence import moments
from frz.backbones.set_sequence.moments import Moments, TrimmedMoments


def test_moments_of_columns_with_gaps():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 4)) * [1, 50, 0, 3] + [0, 1e4, 7, 0]
    rows[rng.random(rows.shape) < 0.3] = np.nan
    rows[:, 3] = np.nan
    found = Moments(4)
    for part in np.array_split(rows, 7):
        found.see(part.astype(np.float32))
    mean, width = found.result()
    np.testing.assert_allclose(mean[:3], np.nanmean(rows[:, :3], 0), rtol=1e-5)
    np.testing.assert_allclose(width[:2], np.nanstd(rows[:, :2], 0), rtol=1e-4)
    assert (width[2], mean[3], width[3]) == (1.0, 0.0, 1.0)


def test_moments_of_nothing():
    mean, width = Moments(2).result()
    assert mean.tolist() == [0.0, 0.0]
    assert width.tolist() == [1.0, 1.0]


def values(n):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, n)
    return codes, rng.normal(size=n) * (codes + 1) + 10 * codes


def test_trimmed_moments_leave_extremes_out():
    codes, drawn = values(6000)
    drawn[codes == 0] = np.where(np.arange((codes == 0).sum()) < 10, 1e6, drawn[codes == 0])
    found = TrimmedMoments(5)
    for part in np.array_split(np.arange(len(codes)), 4):
        found.see(codes[part], drawn[part])
    mean, width = found.result()
    for v in range(3):
        inner = np.sort(drawn[codes == v])
        cut = int(0.01 * len(inner))
        inner = inner[cut : len(inner) - cut]
        np.testing.assert_allclose((mean[v], width[v]), (inner.mean(), inner.std()))
    assert abs(mean[0]) < 0.1
    assert (mean[3], width[3]) == (0.0, 1.0)
    quantiles = found.quantiles(np.array([0.1, 0.5]))
    np.testing.assert_allclose(quantiles[1], np.quantile(drawn[codes == 1], [0.1, 0.5]))
    assert quantiles[4].tolist() == [0.0, 0.0]


def test_a_large_data_set_is_thinned(monkeypatch):
    codes, drawn = values(40_000)
    monkeypatch.setattr(moments, "MOST", 9000)
    found = TrimmedMoments(3)
    for part in np.array_split(np.arange(len(codes)), 10):
        found.see(codes[part], drawn[part])
    assert sum(map(len, found._values)) <= 9000
    mean, width = found.result()
    np.testing.assert_allclose(mean, [0, 10, 20], atol=0.25)
    np.testing.assert_allclose(width, np.array([1, 2, 3]) * 0.96, rtol=0.06)
