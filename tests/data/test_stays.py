"""Rows of stays as sets and elements, against a plain loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frz.data.stays import sets_of

ROWS = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from([0.0, -0.0, 0.5, 3.0, 59.0, 2880.0]), st.integers(0, 3), st.integers(-99, 99)
    ),
    max_size=60,
)


@given(ROWS)
def test_sets_are_what_a_loop_makes_of_the_rows(rows):
    columns = [np.array([row[i] for row in rows], dtype) for i, dtype in enumerate((int, float, int, float))]
    arrays, n_merged = sets_of(6, *columns)
    expected: dict = {}
    for stay, minute, variable, value in rows:
        expected.setdefault(stay, {}).setdefault(minute + 0.0, {}).setdefault(variable, []).append(value)
    assert n_merged == len(rows) - len(arrays["element/value"])
    for stay in range(6):
        first, last = arrays["set/offsets"][stay : stay + 2]
        assert arrays["set/minute"][first:last].tolist() == sorted(expected.get(stay, {}))
        for at in range(first, last):
            held = expected[stay][arrays["set/minute"][at]]
            elements = slice(*arrays["element/offsets"][at : at + 2])
            assert arrays["element/variable"][elements].tolist() == sorted(held)
            means = [np.float32(np.mean(held[variable])) for variable in sorted(held)]
            assert arrays["element/value"][elements].tolist() == means
    assert len(arrays["set/minute"]) == arrays["set/offsets"][-1] == len(arrays["element/offsets"]) - 1


def test_the_order_of_rows_does_not_matter_and_a_single_value_is_kept_to_the_bit():
    rng = np.random.default_rng(0)
    stay, minute, variable = rng.integers(0, 9, 500), rng.integers(0, 50, 500) / 7, rng.integers(0, 20, 500)
    value = (variable + 0.1) * np.pi
    order = rng.permutation(500)
    one, _ = sets_of(9, stay, minute, variable, value)
    other, _ = sets_of(9, stay[order], minute[order], variable[order], value[order])
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name
    exact = ((one["element/variable"] + 0.1) * np.pi).astype(np.float32)
    np.testing.assert_array_max_ulp(one["element/value"], exact, 1)
