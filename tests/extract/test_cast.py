"""What the backbone gives and what is stored: rounded as torch does, refused where it does not fit, typed as asked."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frz.config import override, parse
from frz.errors import ConfigError
from frz.extract.cast import FLOATS, cast
from frz.extract.settings import Settings, feature_schema, group_of
from frz.store import part, snapshot
from frz.store.opened import open_part
from frz.store.schema import KEY, Array, Axis, Schema

NUMBERS = st.floats(-60_000, 60_000, width=32)


def feature(dtype, **more):
    return Array(dtype=dtype, role="feature", group="features", **more)


class Backbone:
    """As much of one as decides what is stored."""

    axes = {}
    annotations = {"event/match": Array(dtype="int32", role="target")}
    outputs = {
        "hit/embedding": feature("float32", shape=(4,)),
        "hit/assignment_logit": feature("float32", shape=(2,)),
        "hit/scaled": feature("float32", shape=(3,)),
        "event/embedding": feature("float32", shape=(8,)),
        "hit/seed": feature("int32"),
    }


DATA = Schema(
    axes={"hit": Axis()},
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        KEY: Array(dtype="uint8", shape=(16,), role="meta"),
        "hit/truth": Array(dtype="float32", role="target"),
        "hit/charge": Array(dtype="float32"),
        "event/age": Array(dtype="int16", unit="year"),
    },
)


def stored(**chosen):
    return feature_schema(Backbone(), DATA, parse(Settings, chosen, "extract"))


def dtypes(schema):
    return {name: spec.dtype for name, spec in schema.arrays.items() if spec.dtype in FLOATS}


@given(values=st.lists(NUMBERS, max_size=9), dtype=st.sampled_from(FLOATS), as_tensor=st.booleans())
@example(values=[65519.0, -65519.0, 5e-8, -0.0], dtype="float16", as_tensor=True)
@example(values=[1.00390625, 1.01171875], dtype="bfloat16", as_tensor=False)  # halfway: to the even neighbour
@settings(max_examples=100)
def test_floats_are_rounded_as_torch_rounds_them(values, dtype, as_tensor):
    mapped = np.array(values, np.float32)
    mapped.setflags(write=False)
    expected = torch.tensor(values, dtype=torch.float32).to(getattr(torch, dtype))
    found = cast("hit/x", torch.tensor(values, dtype=torch.float32) if as_tensor else mapped, feature(dtype))
    assert found.dtype == feature(dtype).in_memory
    np.testing.assert_array_equal(found, expected.double().numpy())
    if dtype == "float16":
        np.testing.assert_array_equal(found, mapped.astype(np.float16))


@pytest.mark.parametrize("dtype", FLOATS)
def test_types_of_the_backbones_own_are_taken(dtype):
    for own in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        values = torch.tensor([1.0, -2.5], dtype=own)
        np.testing.assert_array_equal(cast("hit/x", values, feature(dtype)), [1.0, -2.5])


@pytest.mark.parametrize(
    ("largest", "dtype", "way_out"),
    [
        (65520.0, "float16", "; --set dtype.hit/x=bfloat16 or --set dtype.hit/x=float32"),
        (-1e6, "float16", "; --set dtype.hit/x=bfloat16 or --set dtype.hit/x=float32"),
        (3.4e38, "bfloat16", "; --set dtype.hit/x=float32 or --set dtype.hit/x=float64"),
        (1e39, "float32", "; --set dtype.hit/x=float64"),
        (1e39, "float16", "; --set dtype.hit/x=float64"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_types_that_hold_it(largest, dtype, way_out):
    values = np.array([[0.5, largest]], np.float64)
    with pytest.raises(ConfigError) as error:
        cast("hit/x", values, feature(dtype))
    assert str(error.value).startswith(f"hit/x: values up to {abs(largest):.6g} do not fit {dtype} (up to ")
    assert str(error.value).endswith(way_out)
    key, _, found = error.value.way_out.split()[1].partition("=")
    assert key == "dtype.hit/x"
    assert np.isfinite(cast("hit/x", values, feature(found))).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(dtype, bad):
    with pytest.raises(ConfigError, match="hit/x: the backbone gave values that are not finite"):
        cast("hit/x", np.array([1, bad, 2], np.float32), feature(dtype))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([300], "uint8"), ([-1], "uint8"), ([1 << 40], "int32"), ([0.5], "int32"), ([np.nan], "int64")],
)
def test_whole_numbers_come_out_equal_or_not_at_all(values, dtype):
    with pytest.raises(ConfigError, match=f"hit/x: the value .* does not fit {dtype}"):
        cast("hit/x", np.array(values), Array(dtype=dtype))
    fits = cast("hit/x", torch.tensor([0, 1, 7]), Array(dtype=dtype))
    assert fits.dtype == np.dtype(dtype)
    assert fits.tolist() == [0, 1, 7]


@pytest.mark.parametrize("dtype", [*FLOATS, "int32"])
def test_no_members_are_cast_too(dtype):
    assert cast("hit/x", torch.empty(0, 3), feature(dtype, shape=(3,))).shape == (0, 3)


def test_embeddings_are_halves_unless_said_otherwise():
    half = {"hit/embedding": "float16", "event/embedding": "float16"}
    rest = {"hit/assignment_logit": "float32", "hit/scaled": "float32", "hit/truth": "float32"}
    assert dtypes(stored()) == half | rest
    assert dtypes(stored(dtype={"hit/embedding": "float32"})) == half | rest | {"hit/embedding": "float32"}
    assert dtypes(stored(dtype={"hit/*": "bfloat16"})) == half | rest | {
        "hit/embedding": "bfloat16",
        "hit/assignment_logit": "bfloat16",
        "hit/scaled": "bfloat16",
    }
    everything = dtypes(stored(dtype="float64"))
    assert {name for name, dtype in everything.items() if dtype == "float64"} == everything.keys() - {"hit/truth"}
    nearer = dtypes(stored(dtype={"*": "float32", "*/embedding": "bfloat16", "hit/embedding": "float64"}))
    assert nearer == rest | {"hit/embedding": "float64", "event/embedding": "bfloat16"}


def test_codecs_go_by_name_and_pattern_and_leave_the_keys_alone():
    schema = stored(codec="compact")
    assert {name for name, spec in schema.arrays.items() if spec.codec == "fast"} == {KEY}
    schema = stored(codec={"hit/*": "compact", "hit/scaled": ["zstd"]})
    assert [step["name"] for step in schema.arrays["hit/scaled"].codec] == ["bytes", "zstd", "crc32c"]
    assert {name for name, spec in schema.arrays.items() if spec.codec == "compact"} == {
        "hit/embedding",
        "hit/assignment_logit",
        "hit/seed",
        "hit/truth",
    }
    assert schema.digest() == stored().digest()


def test_an_archive_holds_embeddings_and_logits_as_bfloat16():
    short = {"hit/embedding", "event/embedding", "hit/assignment_logit"}
    assert {name for name, dtype in dtypes(stored(codec="archive")).items() if dtype == "bfloat16"} == short
    assert dtypes(stored(codec={"hit/embedding": "archive"})) == dtypes(stored(dtype={"hit/embedding": "bfloat16"}))
    kept = stored(codec="archive", dtype={"*/embedding": "float16", "*logit": "float32"})
    assert dtypes(kept) == dtypes(stored())
    assert kept.arrays["hit/embedding"].codec == "archive"


def test_settings_are_given_on_the_command_line():
    given = override({}, ["dtype.hit/embedding=float32", "codec.hit/*=archive", "codec.hit/scaled=[{name: gzip}]"])
    schema = stored(**given)
    assert dtypes(schema)["hit/embedding"] == "float32"
    assert dtypes(schema)["hit/assignment_logit"] == "bfloat16"
    assert schema.arrays["hit/scaled"].codec[1]["name"] == "gzip"
    assert stored(**override({}, ["dtype=float32"])).digest() == stored(dtype={"*": "float32"}).digest()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"dtype": {"hit/embeding": "float32"}}, "dtype: no array fits 'hit/embeding'; did you mean 'hit/embedding'"),
        ({"dtype": {"hit/seed": "float32"}}, "dtype: no array fits 'hit/seed'"),
        ({"dtype": {"hit/truth": "float16"}}, "dtype: no array fits 'hit/truth'"),
        ({"dtype": {"hit/embedding": "float8"}}, "dtype.hit/embedding = 'float8'"),
        ({"codec": {"hat/*": "compact"}}, r"codec: no array fits 'hat/\*'"),
        ({"codec": {KEY: "compact"}}, "codec: no array fits 'event/key'"),
        ({"codec": "compct"}, "codec = 'compct': unknown preset 'compct'; did you mean 'compact'"),
        ({"codec": {"hit/scaled": ["zsd"]}}, r"codec.hit/scaled = \['zsd'\]: no codec 'zsd'"),
        ({"embedding_dtype": "float32"}, "unknown key 'embedding_dtype'"),
        (
            {"codec": {"hit/scaled": [{"name": "numcodecs.bitround", "configuration": {"keepbits": 3}}]}},
            "codec of hit/scaled: .* changes float32 values",
        ),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_in_a_line(chosen, message):
    with pytest.raises(ConfigError, match=message) as error:
        stored(**chosen)
    assert "\n" not in str(error.value)


def test_targets_book_keeping_and_inputs_of_events_are_carried_and_other_inputs_are_not():
    carried = group_of(stored(), "carried")
    assert set(carried.arrays) == {"event/id", "hit/truth", "event/age"}
    assert carried.arrays["event/age"].role == "input"
    assert "hit/charge" not in stored().arrays


def test_types_make_other_features_and_codecs_do_not():
    features = group_of(stored(), "features").digest()
    assert group_of(stored(codec="compact"), "features").digest() == features
    assert group_of(stored(codec="archive"), "features").digest() != features
    assert group_of(stored(dtype={"*/embedding": "float16"}), "features").digest() == features
    assert Settings(codec={"*": "compact"}, dtype={"*": "float32"}).recipe() == Settings().recipe()


@pytest.mark.parametrize("chosen", [{}, {"codec": "archive"}, {"dtype": "float32"}, {"dtype": {"*logit": "float16"}}])
def test_a_store_tells_how_to_compute_its_features_again(chosen):
    schema = stored(**chosen)
    recipe = parse(Settings, {**chosen, "batch_size": 7}, "extract").recipe()
    again = Settings.of_store(recipe, schema)
    assert again.batch_size == 7
    assert feature_schema(Backbone(), DATA, again).content() == schema.content()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", ["fast", "compact", "archive"])
def test_what_is_cast_is_what_is_read(tmp_path, dtype, codec):
    spec = feature(dtype, shape=(4,), codec=codec)
    schema = Schema(axes={"hit": Axis()}, arrays={"event/id": Array(dtype="int64"), "hit/embedding": spec})
    values = cast("hit/embedding", torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)), spec)
    arrays = {"event/id": np.arange(2), "hit/offsets": np.array([0, 1234, 5000]), "hit/embedding": values}
    snapshot.prepare_root(tmp_path)
    record = part.write_part(tmp_path, "features", "ab" * 32, schema, arrays)
    found = np.asarray(open_part(tmp_path, "features", record)["hit/embedding"])
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(cast("hit/embedding", found, spec), values)
