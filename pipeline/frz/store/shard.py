"""One array of a part as a single Zarr v3 shard: as it is, byte-identical to zarr-python's and mapped, or packed.

Layout of the file `c/0/…/0`: k inner chunks of `inner` rows of full width, one after the other (the last one
filled up with zeros), then the index: k pairs (offset, nbytes) of little-endian uint64 and a CRC-32C of
them. Because nothing is compressed, the payload is the array itself and can be mapped. With a codec, zarr-python
writes the shard, of the same chunks.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from frz.errors import StoreError
from frz.store import codecs

if TYPE_CHECKING:
    import zarr

CHUNK_BYTES = 1 << 20
_CRC_BYTES = 4


def geometry(n: int, row_bytes: int) -> tuple[int, int]:
    """Number of inner chunks and rows in each, for n rows: chunks of at most 1 MiB (at least one row)."""
    k = max(1, -(-n // max(1, CHUNK_BYTES // row_bytes)))
    return k, max(1, -(-n // k))


def metadata(values: NDArray[Any], dimension_names: list[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The `zarr.json` of an array: one shard, codec `bytes`, index at the end with a CRC-32C."""
    trailing = list(values.shape[1:])
    k, inner = geometry(len(values), row_bytes(values))
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    fill: dict[str, Any] = {"b": False, "f": 0.0}
    return {
        "shape": list(values.shape),
        "data_type": str(values.dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [k * inner, *trailing]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill.get(values.dtype.kind, 0),
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [inner, *trailing],
                    "codecs": [little if values.dtype.itemsize > 1 else {"name": "bytes"}],
                    "index_codecs": [little, {"name": "crc32c"}],
                    "index_location": "end",
                },
            }
        ],
        "attributes": dict(attributes),
        "dimension_names": dimension_names,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def row_bytes(values: NDArray[Any]) -> int:
    """Bytes of one row (one member of the first axis)."""
    return int(values.dtype.itemsize * np.prod(values.shape[1:], dtype=np.int64))


def index_bytes(k: int, chunk_bytes: int) -> bytes:
    """The shard index of k equal chunks that lie one after the other."""
    table = np.empty((k, 2), "<u8")
    table[:, 0] = np.arange(k, dtype=np.uint64) * np.uint64(chunk_bytes)
    table[:, 1] = chunk_bytes
    raw = table.tobytes()
    return raw + int(google_crc32c.value(raw)).to_bytes(_CRC_BYTES, "little")


def write(
    folder: Path,
    values: NDArray[Any],
    dimension_names: list[str],
    attributes: Mapping[str, Any],
    codec: codecs.Codec = codecs.FAST,
) -> None:
    """Write an array into `folder` (`zarr.json` and, unless it is empty, its one shard).

    Parameters
    ----------
    folder : Path
        Made here.
    values : array (n, …)
        Any dtype of fixed size; no trailing dimension may be 0.
    codec : Codec
        How values are packed.
    """
    if codec != codecs.FAST:
        with codecs.quiet():
            _create_packed(folder, values, dimension_names, attributes, codec)[...] = values
        return
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_bytes(metadata_bytes(values, dimension_names, attributes))
    if len(values) == 0:
        return
    k, inner = geometry(len(values), row_bytes(values))
    path = folder / "c" / "/".join("0" * values.ndim)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).data)
        file.write(bytes((k * inner - len(values)) * row_bytes(values)))
        file.write(index_bytes(k, inner * row_bytes(values)))


def metadata_bytes(
    values: NDArray[Any],
    dimension_names: list[str],
    attributes: Mapping[str, Any],
    codec: codecs.Codec = codecs.FAST,
) -> bytes:
    """The `zarr.json` that `write` makes; only shape and dtype of `values` matter."""
    if codec == codecs.FAST:
        return json.dumps(metadata(values, dimension_names, attributes), indent=2).encode()
    with TemporaryDirectory() as folder:
        _create_packed(Path(folder, "array"), values, dimension_names, attributes, codec)
        return Path(folder, "array", "zarr.json").read_bytes()


def _create_packed(
    folder: Path, values: NDArray[Any], dimension_names: list[str], attributes: Mapping[str, Any], codec: codecs.Codec
) -> "zarr.Array[Any]":
    import zarr  # slow to import, and needed for packed arrays only

    k, inner = geometry(len(values), row_bytes(values))
    with codecs.quiet():
        packing = codecs.chain(codec, str(values.dtype))
        return zarr.create_array(
            folder,
            shape=values.shape,
            shards=(k * inner, *values.shape[1:]),
            chunks=(inner, *values.shape[1:]),
            dtype=values.dtype,
            filters=packing.filters,
            serializer=packing.serializer,
            compressors=packing.compressors,
            fill_value=0,
            attributes=dict(attributes),
            dimension_names=dimension_names,
            config={"write_empty_chunks": True},
        )


def map_shard(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Map the shard of an array (read-only), or None if the file is not laid out as above.

    The caller has compared the file's size with the commit record: a mapped file that is too short would
    end the process instead of raising.
    """
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return None
        return view(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype, shape)


def view(content: bytes | mmap.mmap, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """The array in the content of a shard (read-only, not copied), or None if it is not laid out as above."""
    empty = np.empty((0, *shape[1:]), dtype)
    k, inner = geometry(shape[0], row_bytes(empty))
    payload, index = k * inner * row_bytes(empty), index_bytes(k, inner * row_bytes(empty))
    if len(content) != payload + len(index) or content[payload:] != index:
        return None
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content, np.dtype(dtype).newbyteorder("<"), count).reshape(shape)


def crc32c(path: Path) -> int:
    """CRC-32C (Castagnoli) of a file."""
    checksum = 0
    for block in _blocks(path):
        checksum = google_crc32c.extend(checksum, block)
    return checksum


def _blocks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    # a block of 1 MiB is still in the cache of the core when its checksum is made: three times faster than 16 MiB
    try:
        with path.open("rb") as file:
            while block := file.read(size):
                yield block
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=str(path)) from None
