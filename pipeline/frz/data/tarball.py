"""Files inside a tar.gz, streamed: nothing is unpacked to disk, and one file is in memory at a time.

Particular: `tarfile` ends an archive quietly at a damaged or cut-off header, and its own gzip stream never
looks at the checksum. Here both are errors, so that half an archive is never taken for a whole one.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Self

from frz.errors import SourceError

FRESH_COPY = "the archive is cut off or damaged: fetch a fresh copy"


class _Header(tarfile.TarInfo):
    """A member header; a bad one stops the reading instead of ending it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)  # tarfile's own signal for the end of the archive
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def members(path: Path, suffix: str, where_from: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of an archive whose names end in `suffix`, in file order; others are passed over.

    Parameters
    ----------
    path : Path
        A tar.gz.
    suffix : str
        `.json`.
    where_from : str
        The way out where there is no such archive.

    Raises
    ------
    SourceError
        If the archive is missing, cut off or damaged.
    """
    found = 0
    try:
        with gzip.open(path, "rb") as raw, tarfile.open(fileobj=raw, mode="r|", tarinfo=_Header) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() and member.name.endswith(suffix) else None
                if content is not None:
                    yield member.name, content.read()
                    found += 1
                archive.members = []  # type: ignore[attr-defined] # else tarfile keeps every header of a long archive
            while raw.read(1 << 20):  # the checksum stands at the very end
                pass
    except FileNotFoundError:
        raise SourceError("no such archive", where=str(path), way_out=where_from) from None
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        text = f"cannot be read after {found} events: {error}"
        raise SourceError(text, where=str(path), way_out=FRESH_COPY) from None


def digest_of_files(paths: Iterable[Path], settings: str, where_from: str) -> str:
    """SHA-256 (hex) over settings and the bytes of files.

    Raises
    ------
    SourceError
        If a file cannot be opened.
    """
    digest = sha256(settings.encode())
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            what = f"cannot be opened: {error.strerror}"
            raise SourceError(what, where=str(path), way_out=where_from) from None
    return digest.hexdigest()
