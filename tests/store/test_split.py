"""Splits: shares by hash of the group, and parts of the data that are a split as they are published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frz.config import parse
from frz.errors import ConfigError, SourceError
from frz.store.split import Split

PARTS = ("first", "second", "third")
FRACTIONS = {"train": 0.75, "val": 0.25, "test": 0.0}


def test_split_shares_and_independence_of_key_order():
    groups = np.arange(200_000)
    one = Split(fractions={"train": 0.8, "val": 0.1, "test": 0.1})
    other = Split(fractions={"test": 0.1, "val": 0.1, "train": 0.8})
    for name, share in one.fractions.items():
        members = one.members(name, groups)
        np.testing.assert_array_equal(members, other.members(name, groups))
        assert abs(len(members) / len(groups) - share) < 4 * np.sqrt(share * (1 - share) / len(groups))
    assert len(np.intersect1d(one.members("test", groups), Split(seed=1).members("test", groups))) < 2500


OWNERS = st.dictionaries(st.integers(-(2**62), 2**62) | st.integers(-5, 20), st.sampled_from(PARTS), min_size=1)


@given(OWNERS, st.dictionaries(st.sampled_from(PARTS), st.sampled_from(["train", "test"])))
def test_every_group_of_a_published_part_is_in_its_split_and_others_are_dealt(owners, published):
    parts = {part: np.array([g for g, owner in owners.items() if owner == part], np.int64) for part in PARTS}
    split = Split(fractions=FRACTIONS, published=published).with_groups(parts, "here")
    groups = np.array(list(owners), np.int64)
    dealt = Split(fractions=FRACTIONS).which(groups)
    found = split.which(groups)
    for group, owner, place, by_hash in zip(groups, owners.values(), found, dealt, strict=True):
        expected = split.names.index(published[owner]) if owner in published else by_hash
        assert place == expected, group
    assert split == Split.model_validate_json(split.model_dump_json())
    again = Split(fractions=FRACTIONS, published=published).with_groups({p: parts[p][::-1] for p in PARTS}, "here")
    assert again == split


def test_runs_are_as_long_as_no_other_part_stands_between():
    parts = {"a": np.array([9, 1, 3]), "b": np.array([4, 5, 11])}
    split = Split(fractions=FRACTIONS, published={"b": "test"}).with_groups(parts, "here")
    assert split.runs == {"b": ((4, 5), (11, 11))}


def test_a_split_without_parts_says_what_it_always_said():
    assert Split().content() == {"seed": 0, "fractions": {"train": 0.8, "val": 0.1, "test": 0.1}}
    assert Split().with_groups({"a": np.arange(3)}, "here") == Split()


def test_what_a_published_part_holds_is_part_of_the_content():
    one, other = (
        Split(fractions=FRACTIONS, published={"a": "test"}).with_groups({"a": np.arange(n)}, "here").content()
        for n in (3, 4)
    )
    assert one != other


def test_parts_that_are_not_there_or_overlap_or_have_no_split_are_refused():
    split = Split(fractions=FRACTIONS, published={"b": "test"})
    with pytest.raises(ConfigError, match=r"recipe: split.published: no part 'b'; parts: a"):
        split.with_groups({"a": np.arange(3)}, "recipe")
    with pytest.raises(ConfigError, match=r"no part 'b'; this source is published in one piece"):
        split.with_groups({}, "recipe")
    with pytest.raises(SourceError, match=r"group 2 is published in a and b \(2 such groups\)"):
        split.with_groups({"a": np.arange(4), "b": np.array([2, 7, 3])}, "recipe")
    with pytest.raises(ConfigError, match=r"fractions has no 'dev'"):
        parse(Split, {"published": {"a": "dev"}}, "recipe")
