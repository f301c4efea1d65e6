"""Where something lies: a folder of this machine, or a prefix of an object store, both as one kind of path.

Particular: a URL becomes a `upath.UPath`, which has the methods of `pathlib.Path` over fsspec, and is handed on as a
Path, for nearly all code treats both alike. What an object store cannot do (rename, link, append, map) is asked for in
few places, which look at `is_remote`. Credentials come from the environment alone and are never part of a URL.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from frz.config import import_extra
from frz.errors import ConfigError, FrzError, StoreError

_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.:-]+):/")  # one slash: what pathlib leaves of two
_WAY_OUT = "check bucket, endpoint (AWS_ENDPOINT_URL) and credentials (AWS_ACCESS_KEY_ID …) in the environment"


def location(where: str | Path) -> Path:
    """The path that a text means: of a file or folder, or `s3://bucket/prefix` and URLs of other object stores.

    Raises
    ------
    ConfigError
        If a URL holds credentials, is of a kind that cannot hold artifacts, or its package is not installed.
    """
    if not isinstance(where, str | Path):  # what this function returned
        return where
    text = str(where)
    if (found := _URL.match(text)) is None:
        return Path(where)
    scheme, rest = found["scheme"].lower(), text[found.end() :].removeprefix("/")
    shown = f"{scheme}://…"
    if isinstance(where, Path) or not text.startswith(f"{found['scheme']}://"):
        raise ConfigError("is not a URL any more", where=shown, way_out="give URLs as text, with two slashes")
    host = rest.partition("/")[0]
    if "@" in host or (":" in host and "@" in rest) or "?" in rest:
        way_out = "give them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE)"
        raise ConfigError("a URL must not hold credentials", where=shown, way_out=way_out)
    if scheme in ("file", "local"):
        return Path(rest)
    if scheme in ("memory", "http", "https") or "::" in scheme:
        raise ConfigError("cannot hold artifacts", where=shown, way_out="give a folder, or s3://bucket/prefix")
    if not host:
        raise ConfigError("names no bucket", where=shown, way_out="give s3://bucket/prefix")
    import_extra("upath", "s3")
    if scheme == "s3":
        import_extra("s3fs", "s3")
    from upath import UPath

    try:
        # a listing that is remembered would hide what other processes have committed since
        made = UPath(text.rstrip("/"), use_listings_cache=False)
        filesystem(cast(Path, made))
    except (ValueError, ImportError):
        way_out = "install the fsspec package for it, or give a folder or s3://bucket/prefix"
        raise ConfigError(f"nothing here can read {scheme}://", where=shown, way_out=way_out) from None
    return cast(Path, made)


def refuse_remote(path: Path) -> None:
    """Refuse a place on an object store for a file that people take with them.

    Raises
    ------
    ConfigError
        If it is one, also where pathlib has taken a slash from its URL.
    """
    if is_remote(path) or _URL.match(str(path)):
        scheme = str(path).partition(":")[0]
        way_out = "give a local file or folder, and copy it there"
        raise ConfigError("is written to this machine alone", where=f"{scheme}://…", way_out=way_out)


def make_place(file: Path) -> None:
    """Make the folder of a file that people take with them, before any work.

    Raises
    ------
    ConfigError
        If the file is of an object store or a folder, or its folder cannot be made.
    """
    refuse_remote(file)
    if file.is_dir():
        raise ConfigError("is a folder", where=str(file), way_out="give a file in it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise ConfigError(what, where=str(file), way_out="give another path") from None


def is_remote(path: Path) -> bool:
    """Whether a path is of an object store."""
    return not isinstance(path, Path)


def filesystem(path: Path) -> tuple[Any, str]:
    """The fsspec file system of a remote path, and what the path is called there."""
    remote: Any = path
    return remote.fs, remote.path


@contextmanager
def reached(path: Path) -> Iterator[None]:
    """Turn what an object store's client raises into one line.

    Its own text is left out: it may hold an endpoint with a password.

    Raises
    ------
    StoreError
        If the store cannot be reached, or refuses.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, FrzError):
        raise
    except Exception as error:
        what = f"the object store cannot be used ({type(error).__name__})"
        raise StoreError(what, where=str(path), way_out=_WAY_OUT) from None


def refuse_missing_bucket(path: Path) -> None:
    """Ask the object store once whether it is there, before any work.

    Raises
    ------
    StoreError
        If it does not answer, or has no such bucket.
    """
    fs, name = filesystem(path)
    with reached(path):
        if not (fs.exists(name) or fs.exists(name.partition("/")[0])):
            raise StoreError("no such bucket", where=str(path), way_out="make it, or check the URL and the endpoint")


def read_bytes(path: Path) -> bytes:
    """The content of a file; of an object in one request.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    """
    if not is_remote(path):
        return path.read_bytes()
    fs, name = filesystem(path)
    content: bytes = fs.cat_file(name, **in_one_request(fs))
    return content


def in_one_request(fs: Any) -> dict[str, int]:
    """What tells a file system to get an object without a look at its size first: s3fs would fetch ranges at once."""
    return {"max_concurrency": 1} if "s3" in fs.protocol else {}


def children(folder: Path) -> list[Path]:
    """What lies in a folder, or below a prefix up to the next slash; nothing if it does not exist."""
    if not is_remote(folder):
        return list(folder.iterdir()) if folder.is_dir() else []
    fs, name = filesystem(folder)
    try:
        found = fs.ls(name, detail=False)
    except FileNotFoundError:
        return []
    return [folder / key.rstrip("/").rpartition("/")[2] for key in found if key.rstrip("/") != name]
