import math

import numpy as np
import torch

from frz.heads.offsets import Offsets, innermost

RNG = np.random.default_rng(0)


def test_innermost_by_hand():
    values = np.array([[1.0], [2.0], [3.0], [4.0]])
    found = innermost(values, np.array([5.0, 4.0, 1.0, 2.0]), np.array([0, 2, 2, 4]))
    assert found.tolist() == [[2.0], [0.0], [3.0]]


def test_line_back_to_the_target_is_found():
    reference = RNG.normal(size=(4000, 2)).astype(np.float32)
    eta = 1.3 * reference[:, 0] - 0.2 + 0.01 * RNG.normal(size=4000)
    eta[::50] += 3  # a hit of something else
    phi = 1.8 * reference[:, 1] + 0.1 + 0.01 * RNG.normal(size=4000)
    phi = (phi + math.pi) % (2 * math.pi) - math.pi
    values = np.stack([np.zeros(4000), phi, eta], 1).astype(np.float32)
    offsets = Offsets(3, (2, 1), (False, True))
    reference[:, 1] = np.clip(reference[:, 1], -math.pi / 1.8, math.pi / 1.8)  # hits stand within one turn
    inside = np.abs(1.8 * reference[:, 1]) < math.pi - 0.2
    offsets.measure(values[inside], reference[inside])
    np.testing.assert_allclose(offsets.slope, [1.3, 1.8], rtol=1e-3)
    np.testing.assert_allclose(offsets.intercept, [-0.2, 0.1], atol=2e-3)
    found = offsets(torch.from_numpy(reference[inside]))
    assert float(found[:, 0].abs().max()) == 0
    np.testing.assert_allclose(np.median(np.abs(values[inside, 2] - found[:, 2].numpy())), 0.0067, rtol=0.1)


def test_nothing_to_measure_leaves_no_offset():
    offsets = Offsets(1, (0,), (False,))
    offsets.measure(np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))
    assert offsets(torch.ones(2, 1)).tolist() == [[0.0], [0.0]]
