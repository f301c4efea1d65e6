"""How the values of an array are packed in its shard: a preset, or codecs as they stand in Zarr v3 metadata.

`fast` packs nothing and can be mapped. Everything else ends in a CRC-32C of each inner chunk, so that any Zarr reader
notices a flipped bit (most compressors do not), and gives back the very values: a codec never decides what an
array holds.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from frz.errors import ConfigError, nearest
from frz.store import bfloat16

Codec: TypeAlias = str | tuple[dict[str, Any], ...]
"""The name of a preset, or codecs in the order of encoding: `{"name": …, "configuration": {…}}`."""

FAST, ARCHIVE = "fast", "archive"
PRESETS = (FAST, "compact", ARCHIVE)
ZSTD_LEVELS: Mapping[str, int] = {"compact": 3, ARCHIVE: 5}
"""The other two are blosc's zstd of shuffled bytes. Not of bits: zstd's entropy coding wants the exponents whole."""

TO_BYTES: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
CHECKSUM: dict[str, Any] = {"name": "crc32c", "configuration": {}}


class Chain(NamedTuple):
    """Codec objects as `zarr.create_array` takes them."""

    filters: list[Any]
    serializer: Any
    compressors: list[Any]


def parse(codec: str | Sequence[Any]) -> Codec:
    """A codec as a user writes it, checked and filled up.

    Parameters
    ----------
    codec : str or list
        A preset, or a list of names and of mappings with `name` and `configuration`. `bytes` is put where no codec
        turns the array into bytes, a checksum at the end.

    Raises
    ------
    ValueError
        If a preset or a codec is not known, its configuration is wrong, or the codecs do not follow each other.
    """
    if isinstance(codec, str):
        if codec not in PRESETS:
            raise ValueError(f"unknown preset {codec!r}; {nearest(codec, PRESETS)}, or a list of Zarr codecs")
        return codec
    if not isinstance(codec, Sequence) or not codec:
        raise ValueError(f"expected a preset ({', '.join(PRESETS)}) or a list of Zarr codecs")
    given = []
    for step in codec:
        whole: dict[str, Any] = {"configuration": {}} | (step if isinstance(step, dict) else {"name": step})
        if whole.keys() != {"name", "configuration"}:
            raise ValueError(f"codec {step!r} is not of the form {{name: …, configuration: {{…}}}}")
        given.append(whole)
    kinds = [_kind(step) for step in given]
    if 1 not in kinds:
        at = kinds.count(0)
        given.insert(at, TO_BYTES)
        kinds.insert(at, 1)
    if kinds != sorted(kinds) or kinds.count(1) > 1:
        order = "first come codecs of arrays, then one that makes bytes of them, then codecs of bytes"
        raise ValueError(f"{_names(given)}: {order}")
    return (*given, *([] if given[-1]["name"] == CHECKSUM["name"] else [CHECKSUM]))


def chain(codec: Codec, dtype: str) -> Chain:
    """The codec objects for an array of `dtype`."""
    if isinstance(codec, str):
        shuffle = {"shuffle": "shuffle", "typesize": bfloat16.on_disk(dtype).itemsize, "blocksize": 0}
        blosc = {"cname": "zstd", "clevel": ZSTD_LEVELS[codec], **shuffle}
        codec = (TO_BYTES, {"name": "blosc", "configuration": blosc}, CHECKSUM)
    made = [(_kind(step), _make(step)) for step in codec]
    filters, compressors = ([found for kind, found in made if kind == wanted] for wanted in (0, 2))
    return Chain(filters, next(found for kind, found in made if kind == 1), compressors)


def refuse_lossy(name: str, codec: Codec, dtype: str, shape: tuple[int, ...]) -> None:
    """Refuse a codec that cannot hold an array of `dtype` and trailing `shape`, or gives other values back.

    Raises
    ------
    ConfigError
        Naming the array and the codecs.
    """
    if isinstance(codec, str):
        return
    from zarr import create_array
    from zarr.storage import MemoryStore

    # any pattern of bits that is a number
    stored = bfloat16.on_disk(dtype)
    values = np.frombuffer(np.random.default_rng(0).bytes(64 * prod(shape) * stored.itemsize), stored)
    values = values.view(np.uint8) % 2 == 1 if stored.kind == "b" else np.nan_to_num(values, posinf=0, neginf=0)
    values = values.reshape(64, *shape)
    try:
        with quiet():
            filters, serializer, compressors = chain(codec, dtype)
            array = create_array(
                MemoryStore(),
                shape=values.shape,
                chunks=values.shape,
                dtype=values.dtype,
                filters=filters,
                serializer=serializer,
                compressors=compressors,
            )
            array[...] = values
            same = np.asarray(array[...]).tobytes() == values.tobytes()
    except Exception as error:  # whatever a codec raises
        if unknown := str(getattr(error, "codec_id", "")).strip("'"):  # numcodecs knows it and lacks what it is made of
            way_out = f"run: pip install 'numcodecs[{unknown}]'"
            what = f"{_names(codec)} needs a package that is not installed"
            raise ConfigError(what, where=f"codec of {name}", way_out=way_out) from None
        raise ConfigError(f"{_names(codec)} cannot hold {dtype}: {error}", where=f"codec of {name}") from None
    if not same:
        way_out = "round values by their dtype (--set dtype.NAME=…), pack them with lossless codecs"
        raise ConfigError(f"{_names(codec)} changes {dtype} values", where=f"codec of {name}", way_out=way_out)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning that numcodecs' codecs are no part of the Zarr v3 specification: they were asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")
        yield


def _names(codec: Sequence[Mapping[str, Any]]) -> str:
    return f"[{', '.join(str(step['name']) for step in codec)}]"


def _kind(step: Mapping[str, Any]) -> int:
    """0: array to array, 1: array to bytes, 2: bytes to bytes."""
    from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec

    made = _make(step)
    return 0 if isinstance(made, ArrayArrayCodec) else 1 if isinstance(made, ArrayBytesCodec) else 2


def _make(step: Mapping[str, Any]) -> Any:
    from zarr.registry import get_codec_class  # slow to import, and needed for packed arrays only

    name = step["name"]
    try:
        with quiet():
            return get_codec_class(name).from_dict(dict(step))
    except KeyError:
        raise ValueError(f"no codec {name!r} in this zarr") from None
    except Exception as error:  # whatever a codec raises
        raise ValueError(f"codec {name!r}: {error}") from None
