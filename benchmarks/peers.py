"""Ways to keep features of ragged events: this store, the limit, plain formats, and peers as they recommend."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import synthetic
from frz.store import Array, Axis, EventArrays, EventStore, Schema, ragged

BATCH = 256
WIDTH = 256
NAMES = ("hit/embedding", "hit/scaled")
SCHEMA = Schema(
    axes={"hit": Axis()},
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "hit/embedding": Array(dtype="float16", shape=(WIDTH,), role="feature"),
        "hit/scaled": Array(dtype="float32", shape=(10,), role="feature"),
    },
)

Index = NDArray[np.int64]


class Store(ABC):
    """One way to keep events."""

    needs: str = ""
    """Package beside those of this project."""
    note: str = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def write(self, parts: Iterable[EventArrays]) -> None:
        """Write all events and close."""

    @abstractmethod
    def open(self) -> None:
        """Make ready for reading."""

    @abstractmethod
    def blocks(self) -> Iterator[EventArrays]:
        """All events in order."""

    @abstractmethod
    def events(self, positions: Index) -> EventArrays:
        """The events at these positions."""

    def shuffled(self, order: Index) -> Iterator[EventArrays]:
        """Batches of an epoch."""
        return (self.events(order[i : i + BATCH]) for i in range(0, len(order), BATCH))


class Frz(Store):
    """This store."""

    def write(self, parts: Iterable[EventArrays]) -> None:
        synthetic.write(self.folder, SCHEMA, parts)

    def open(self) -> None:
        self.store = EventStore(self.folder)

    def blocks(self) -> Iterator[EventArrays]:
        return self.store.parts()

    def events(self, positions: Index) -> EventArrays:
        return self.store.events(positions)


class Flat(Store):
    """Arrays over all events, with their offsets in memory when read."""

    offsets: Index
    arrays: dict[str, Any]

    def blocks(self) -> Iterator[EventArrays]:
        size = synthetic.PART
        for first in range(0, len(self.offsets) - 1, size):
            edges = self.offsets[first : first + size + 1]
            found = {name: np.asarray(self.arrays[name][edges[0] : edges[-1]]) for name in NAMES}
            ids = np.asarray(self.arrays["event/id"][first : first + size])
            yield found | {"event/id": ids, "hit/offsets": edges - edges[0]}

    def events(self, positions: Index) -> EventArrays:
        begins, ends = self.offsets[positions].tolist(), self.offsets[positions + 1].tolist()
        result: EventArrays = {}
        for name in NAMES:
            result[name] = np.concatenate([self.arrays[name][b:e] for b, e in zip(begins, ends, strict=True)])
        result["event/id"] = self.ids[positions]
        result["hit/offsets"] = ragged.offsets_of(np.subtract(ends, begins))
        return result

    @property
    def ids(self) -> Index:
        """All ids, in memory."""
        if not hasattr(self, "_ids"):
            self._ids = np.asarray(self.arrays["event/id"][:])
        return self._ids


class Memmap(Flat):
    """One plain file per array: the limit. It can be neither checked nor grown nor taken for complete."""

    def write(self, parts: Iterable[EventArrays]) -> None:
        self.folder.mkdir()
        lengths = []
        files = {name: (self.folder / name.replace("/", "-")).open("wb") for name in SCHEMA.arrays}
        for arrays in parts:
            lengths.append(np.diff(arrays["hit/offsets"]))
            for name, file in files.items():
                file.write(arrays[name].data)
        for file in files.values():
            file.close()
        np.save(self.folder / "offsets.npy", ragged.offsets_of(np.concatenate(lengths)))

    def open(self) -> None:
        self.offsets = np.load(self.folder / "offsets.npy")
        self.arrays = {}
        for name, spec in SCHEMA.arrays.items():
            path = self.folder / name.replace("/", "-")
            self.arrays[name] = np.asarray(np.memmap(path, spec.dtype, "r")).reshape(-1, *spec.shape)

    def events(self, positions: Index) -> EventArrays:
        rows, offsets = ragged.rows(self.offsets, positions)
        found = {name: self.arrays[name].take(rows, axis=0) for name in NAMES}
        return found | {"event/id": self.arrays["event/id"].take(positions), "hit/offsets": offsets}


class ZarrSharded(Flat):
    """zarr-python, sizes known before, whole shards written at once, chunks of about 1 MB.

    https://zarr.readthedocs.io/en/stable/user-guide/performance/: chunks of at least 1 MB; shards hold many of them,
    and a writer holds a whole shard.
    """

    note = "sizes known before; no compression"
    chunk, shard = 2048, 65536

    def write(self, parts: Iterable[EventArrays]) -> None:
        import zarr

        held = list(parts)  # the shape of a sharded array that is written whole must be known
        offsets = ragged.offsets_of(np.concatenate([np.diff(arrays["hit/offsets"]) for arrays in held]))
        root = zarr.create_group(self.folder)
        for name, spec in SCHEMA.arrays.items():
            n = len(offsets) - 1 if name == "event/id" else int(offsets[-1])
            array = root.create_array(
                name,
                shape=(n, *spec.shape),
                chunks=(self.chunk, *spec.shape),
                shards=(self.shard, *spec.shape),
                dtype=spec.dtype,
                compressors=None,
            )
            values = np.concatenate([arrays[name] for arrays in held])
            for first in range(0, n, self.shard):
                array[first : first + self.shard] = values[first : first + self.shard]
        root.create_array("offsets", data=offsets)

    def open(self) -> None:
        import zarr

        root = zarr.open_group(self.folder, mode="r")
        self.offsets = np.asarray(root["offsets"][:])
        self.arrays = {name: root[name] for name in SCHEMA.arrays}


class ZarrAppended(ZarrSharded):
    """zarr-python, one array grown by `append`, a part at a time; no shards, which cannot be appended to."""

    note = "grown by append; no compression"

    def write(self, parts: Iterable[EventArrays]) -> None:
        import zarr

        root = zarr.create_group(self.folder)
        lengths = []
        for name, spec in SCHEMA.arrays.items():
            chunks = (self.chunk, *spec.shape)
            root.create_array(name, shape=(0, *spec.shape), chunks=chunks, dtype=spec.dtype, compressors=None)
        for arrays in parts:
            lengths.append(np.diff(arrays["hit/offsets"]))
            for name in SCHEMA.arrays:
                root[name].append(arrays[name])
        root.create_array("offsets", data=ragged.offsets_of(np.concatenate(lengths)))


class HdfFlat(Flat):
    """HDF5, one resizable data set per array.

    https://docs.h5py.org/en/stable/high/dataset.html#chunked-storage: chunks of 10 KiB to 1 MiB.
    """

    needs = "h5py"
    note = "chunks of 1 MB"

    def write(self, parts: Iterable[EventArrays]) -> None:
        import h5py

        lengths = []
        with h5py.File(self.folder, "w") as file:
            for name, spec in SCHEMA.arrays.items():
                chunks = (2048, *spec.shape)
                file.create_dataset(name, (0, *spec.shape), spec.dtype, maxshape=(None, *spec.shape), chunks=chunks)
            for arrays in parts:
                lengths.append(np.diff(arrays["hit/offsets"]))
                for name in SCHEMA.arrays:
                    found = file[name]
                    found.resize(len(found) + len(arrays[name]), axis=0)
                    found[len(found) - len(arrays[name]) :] = arrays[name]
            file["offsets"] = ragged.offsets_of(np.concatenate(lengths))

    def open(self) -> None:
        import h5py

        file = h5py.File(self.folder)
        self.offsets = file["offsets"][:]
        self.arrays = {name: file[name] for name in SCHEMA.arrays}


class Items(Store):
    """Stores that hold one item per event."""

    @abstractmethod
    def items(self, positions: Iterable[int]) -> list[dict[str, Any]]:
        """`id`, `embedding` and `scaled` of these events."""

    n_events: int

    def events(self, positions: Index) -> EventArrays:
        return joined(self.items(positions.tolist()))

    def blocks(self) -> Iterator[EventArrays]:
        for first in range(0, self.n_events, synthetic.PART):
            yield joined(self.items(range(first, min(first + synthetic.PART, self.n_events))))


def joined(items: list[dict[str, Any]]) -> EventArrays:
    """Items of single events as flat arrays."""
    return {
        "event/id": np.array([int(item["id"]) for item in items]),
        "hit/embedding": np.concatenate([item["embedding"] for item in items]),
        "hit/scaled": np.concatenate([item["scaled"] for item in items]),
        "hit/offsets": ragged.offsets_of(np.array([len(item["scaled"]) for item in items])),
    }


def single(arrays: EventArrays) -> Iterator[dict[str, Any]]:
    """Each event of a part as an item."""
    edges = arrays["hit/offsets"].tolist()
    for i, (b, e) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        values = {name.partition("/")[2]: arrays[name][b:e] for name in NAMES}
        yield {"id": int(arrays["event/id"][i]), **values}


class HdfGroups(Items):
    """HDF5, one group per event, as is common for features of single events."""

    needs = "h5py"

    def write(self, parts: Iterable[EventArrays]) -> None:
        import h5py

        with h5py.File(self.folder, "w") as file:
            for arrays in parts:
                for item in single(arrays):
                    group = file.create_group(str(item["id"]))
                    group["embedding"], group["scaled"] = item["embedding"], item["scaled"]

    def open(self) -> None:
        import h5py

        self.file = h5py.File(self.folder)
        self.n_events = len(self.file)

    def items(self, positions: Iterable[int]) -> list[dict[str, Any]]:
        found = []
        for i in positions:
            group = self.file[str(i)]
            found.append({"id": i, "embedding": group["embedding"][:], "scaled": group["scaled"][:]})
        return found


class Lit(Items):
    """LitData: chunks of 64 MB as its README has them (`chunk_bytes="64MB"`), read by `StreamingDataset`.

    Written by the `BinaryWriter` that `optimize` runs in each worker, without the workers and their queues.
    Shuffled by `shuffle=True`, https://github.com/Lightning-AI/litData#shuffle: chunks, and items within them.
    """

    needs = "litdata"
    note = "shuffles within chunks"

    def write(self, parts: Iterable[EventArrays]) -> None:
        from litdata.streaming.writer import BinaryWriter

        self.folder.mkdir()
        writer = BinaryWriter(str(self.folder), chunk_bytes="64MB")
        i = 0
        for arrays in parts:
            for item in single(arrays):
                writer.add_item(i, item)
                i += 1
        writer.done()
        writer.merge()

    def open(self) -> None:
        from litdata import StreamingDataset

        self.data = StreamingDataset(str(self.folder))
        self.n_events = len(self.data)

    def items(self, positions: Iterable[int]) -> list[dict[str, Any]]:
        return [self.data[i] for i in positions]

    def blocks(self) -> Iterator[EventArrays]:
        return self._stream(shuffle=False)

    def shuffled(self, order: Index) -> Iterator[EventArrays]:
        return self._stream(shuffle=True)

    def _stream(self, *, shuffle: bool) -> Iterator[EventArrays]:
        from litdata import StreamingDataset

        held = []
        for item in StreamingDataset(str(self.folder), shuffle=shuffle, seed=1):
            held.append(item)
            if len(held) == BATCH:
                yield joined(held)
                held = []
        if held:
            yield joined(held)


class HuggingFace(Items):
    """Hugging Face datasets: Arrow files, mapped, written a batch at a time.

    https://huggingface.co/docs/datasets/use_with_numpy: `with_format("numpy")`, and `Array2D` for arrays whose first
    dimension varies. float16 is kept as uint16; the numpy format gives whole numbers as int64, which are turned back.
    """

    needs = "datasets"
    note = "float16 kept as uint16, which its numpy format widens"

    def write(self, parts: Iterable[EventArrays]) -> None:
        from datasets import Array2D, Features, Value
        from datasets.arrow_writer import ArrowWriter

        self.folder.mkdir()
        features = Features(
            {
                "id": Value("int64"),
                "embedding": Array2D((None, WIDTH), "uint16"),
                "scaled": Array2D((None, 10), "float32"),
            }
        )
        with ArrowWriter(path=str(self.folder / "data.arrow"), features=features) as writer:
            for arrays in parts:
                items = list(single(arrays))
                batch = {key: [item[key] for item in items] for key in ("id", "scaled")}
                batch["embedding"] = [item["embedding"].view(np.uint16) for item in items]
                writer.write_batch(batch)
            writer.finalize()

    def open(self) -> None:
        from datasets import Dataset

        self.data = Dataset.from_file(str(self.folder / "data.arrow")).with_format("numpy")
        self.n_events = len(self.data)

    def items(self, positions: Iterable[int]) -> list[dict[str, Any]]:
        found = self.data[list(positions)]
        columns = zip(found["id"], found["embedding"], found["scaled"], strict=True)
        return [{"id": i, "embedding": e.astype(np.uint16).view(np.float16), "scaled": s} for i, e, s in columns]


STORES: dict[str, Callable[[Path], Store]] = {
    "np.memmap": Memmap,
    "frz": Frz,
    "zarr, sharded": ZarrSharded,
    "zarr, appended": ZarrAppended,
    "HDF5, flat": HdfFlat,
    "HDF5, group per event": HdfGroups,
    "LitData": Lit,
    "Hugging Face datasets": HuggingFace,
}
