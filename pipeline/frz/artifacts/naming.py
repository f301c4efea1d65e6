"""What a short name for an artifact means.

A name is `name`, `name@latest`, `name@best` (of runs), `name@<version>` (of stores), `name@<prefix of a hash>`, any of
them after `<kind>/`, or a path. A prefix has four characters or more, and eight where it could be the number of a
version, so that a version that does not exist is never another one. Names are settled from JSON alone. A refusal lists
what there is, nearest first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from frz.artifacts.places import (
    KINDS,
    MADE_WITH,
    Kind,
    card,
    created,
    entries,
    folders,
    is_run,
    is_store,
    latest_snapshot,
    read_json,
    runs,
    versions,
)
from frz.errors import CheckpointError, ConfigError, FrzError, IdentityError, StoreError, nearest
from frz.location import is_remote, location

_SINGULAR: Mapping[Kind, str] = {
    "datasets": "data set",
    "features": "feature store",
    "backbones": "backbone",
    "heads": "head",
}
_MADE_BY: Mapping[Kind, str] = {
    "datasets": "frz data build",
    "features": "frz extract",
    "backbones": "frz train-backbone",
    "heads": "frz train-head",
}
_PREFIX, _PREFIX_OF_DIGITS = 4, 8
"""Least characters of a hash that name something; of digits alone, which might be meant as a number."""
_FEATURES = re.compile(r"(?P<backbone>.+)-[0-9a-f]{8}(?:-(?P<data>.+))?")


class StoreVersion(NamedTuple):
    """One version of an event store."""

    path: Path
    version: int


class Run(NamedTuple):
    """One training run and which of its weights are meant."""

    path: Path
    weights: str = "best"
    """Stem of a weight file of the run: `best`, `last`, `last-ema`, `top-...`."""

    @property
    def name(self) -> str:
        """`<name>/<run8>`."""
        return f"{self.path.parent.name}/{self.path.name}"


class Artifact(NamedTuple):
    """Anything a name can mean; `version` is None for runs."""

    kind: Kind
    path: Path
    version: int | None


def dataset(spec: str | Path, artifacts: Path) -> StoreVersion:
    """The data set version that `spec` names.

    Raises
    ------
    StoreError
        If there is none, naming the nearest; or if a hash prefix fits several.
    """
    place, selector = _split(str(spec), artifacts, "datasets")
    path = place if is_store(place) else _named(place, "datasets")
    return StoreVersion(path, _version(path, selector))


def features(spec: str | Path, artifacts: Path) -> StoreVersion:
    """The feature store version that `spec` names.

    `muon` is the newest store of backbone `muon` on its own data set; `muon-3f2a9c01`, or as many digits as it takes,
    is the one of these weights, `muon-3f2a9c01-velo` the one on another data set.

    Raises
    ------
    StoreError
        If there is none, naming the nearest; or if a prefix fits several.
    """
    place, selector = _split(str(spec), artifacts, "features")
    path = place if is_store(place) else _features_of(place)
    return StoreVersion(path, _version(path, selector))


def _features_of(place: Path) -> Path:
    """The feature store that a name is short for."""
    named = {path: match for path in folders(place.parent) if (match := _FEATURES.fullmatch(path.name))}
    newest_first = sorted(named, key=lambda path: created(latest_snapshot(path)), reverse=True)
    own = [path for path in newest_first if named[path]["backbone"] == place.name and not named[path]["data"]]
    digits = [p for p in named if p.name.startswith(place.name) and len(place.name) > named[p].end("backbone") + 1]
    fitting = own[:1] or [path for path in digits if not named[path]["data"]] or digits
    if len(fitting) > 1:
        raise _ambiguous(place.name, "features", [path.name for path in fitting])
    return fitting[0] if fitting else _named(place, "features", (match["backbone"] for match in named.values()))


def backbone(spec: str | Path, artifacts: Path) -> Run:
    """The run of a backbone that `spec` names; see `head`."""
    return _run(str(spec), artifacts, "backbones")


def head(spec: str | Path, artifacts: Path) -> Run:
    """The run of a head that `spec` names.

    `name` and `name@latest` are the newest finished run, `name@best` the finished run with the best `score` in its
    card, `name@<prefix>` or `name/<prefix>` one run, finished or not. A path is a run's folder, a folder of runs, or
    one of a run's weight files.

    Raises
    ------
    CheckpointError
        If there is none, naming the nearest; if none is finished; or if a hash prefix fits several.
    """
    return _run(str(spec), artifacts, "heads")


def weights(spec: str | Path, artifacts: Path) -> Path:
    """The weight file of the backbone that `spec` names.

    Raises
    ------
    CheckpointError
        If the backbone or the file is not there.
    """
    if (file := location(spec)).is_file():
        return file
    run = backbone(spec, artifacts)
    file = run.path / f"{run.weights}.safetensors"
    if not file.is_file():
        raise CheckpointError("no weights yet", where=str(file), way_out="run 'frz train-backbone' again to go on")
    return file


def weights_of(backbone: str, fingerprint: str, artifacts: Path) -> Path:
    """The weight file of the run of a backbone that has this fingerprint.

    Raises
    ------
    IdentityError
        If none has, with those that there are.
    """
    seen = []
    for run in runs(artifacts / "backbones" / backbone):
        found = card(run).get("fingerprint")
        if found == fingerprint:
            return run / "best.safetensors"
        if found:
            seen.append(found[:12])
    raise IdentityError(
        f"no run of backbone {backbone!r} has fingerprint {fingerprint[:12]}",
        where=str(artifacts / "backbones"),
        way_out=f"have: {', '.join(seen) or 'none'}; copy its run there",
    )


def find(spec: str, artifacts: Path, kinds: Sequence[Kind] = KINDS) -> Artifact:
    """Whatever `spec` names, of the given kinds (default any).

    Raises
    ------
    FrzError
        If nothing has this name, naming the nearest; or if several kinds have it.
    """
    found: list[Artifact] = []
    refusals: list[FrzError] = []
    # Features last: they answer to the name of their backbone too.
    for kind in sorted(kinds, key=lambda kind: kind == "features"):
        if spec.startswith(f"{kind}/"):
            return _find_one(spec, artifacts, kind)
        try:
            found.append(_find_one(spec, artifacts, kind))
        except (StoreError, CheckpointError) as refusal:
            # A kind that has the name but not the version refuses for a better reason than "no such name".
            refusals.append(refusal)
    if len({artifact.path.resolve() for artifact in found}) > 1:
        # The name itself goes before what a name is short for (features of a backbone).
        found = [artifact for artifact in found if _is_called(artifact, spec)] or found
    if len({artifact.path.resolve() for artifact in found}) > 1:
        raise _ambiguous(spec, None, [f"{artifact.kind}/{spec}" for artifact in found])
    of_the_name = [other for other in refusals if not isinstance(other, _NoSuchName)]
    # A run that cannot be had must not turn into the features that are called after it.
    if found and not (of_the_name and "@" not in spec and not _is_called(found[0], spec)):
        return found[0]
    if of_the_name:
        raise of_the_name[0]
    if others := [kind for kind in KINDS if kind not in kinds and _is_one(spec, artifacts, kind)]:
        what = f"{spec!r} is a {_SINGULAR[others[0]]}, not a {' or '.join(_SINGULAR[kind] for kind in kinds)}"
        raise ConfigError(what, where=str(artifacts), way_out="'frz ls' has the names of each kind")
    if not {"backbones", "heads"} & set(kinds) and ("/" in spec or location(spec).is_dir()):
        stores = _stores_beside(location(spec))
        way_out = nearest(spec, stores) if stores else "build or extract one first"
        raise StoreError("no event store here", where=spec, way_out=way_out)
    names = [path.name for kind in kinds for path in entries(artifacts, kind)]
    way_out = nearest(spec.partition("@")[0], names) if names else "nothing is here yet; start with 'frz demo'"
    raise ConfigError(f"nothing is called {spec!r}", where=str(artifacts), way_out=way_out)


def _is_one(spec: str, artifacts: Path, kind: Kind) -> bool:
    try:
        _find_one(spec, artifacts, kind)
    except FrzError:
        return False
    return True


def _is_called(artifact: Artifact, spec: str) -> bool:
    """Whether a name is the artifact's own, not one that it answers to as well (features to that of their backbone)."""
    return spec.partition("@")[0] in (artifact.path.name, artifact.path.parent.name)


def _stores_beside(path: Path) -> list[str]:
    """Event stores in the folder that a path leads to, as far as it leads, and in the folders there."""
    folder = next(place for place in (path, *path.parents) if place.is_dir() and not is_store(place.parent))
    patterns = ("snapshots", "*/snapshots", "*/*/snapshots")
    return [str(found.parent) for pattern in patterns for found in folder.glob(pattern)]


class _NoSuchName(StoreError, CheckpointError):
    """No artifact of one kind has the name."""


def _find_one(spec: str, artifacts: Path, kind: Kind) -> Artifact:
    if kind == "datasets" or kind == "features":
        version = dataset(spec, artifacts) if kind == "datasets" else features(spec, artifacts)
        return Artifact(_kind_of(version.path), *version)
    run = _run(spec, artifacts, kind).path
    return Artifact("heads" if run.resolve().parent.parent.name == "heads" else "backbones", run, None)


def _kind_of(store: Path) -> Kind:
    """A path to a store does not say its kind; where it lies does, and what extraction leaves there."""
    lies = store.resolve().parent.name == "features"
    return "features" if lies or (store / MADE_WITH).exists() else "datasets"


def _split(spec: str, artifacts: Path, kind: Kind) -> tuple[Path, str]:
    """Place and selector of `place@selector`; a name is looked for among the artifacts, then as a path."""
    name, selector = spec.rstrip("/"), ""
    if not name:
        raise ConfigError(f"{spec!r} names no {_SINGULAR[kind]}", way_out="give a name or a path")
    if "@" in name and not location(name).exists():
        name, _, selector = name.rpartition("@")
        if not selector:
            way_out = f"give {name}, {name}@latest, or what comes after '@'"
            raise ConfigError(f"{spec!r} ends before it says which", way_out=way_out)
    if is_remote(path := location(name)):
        return path, selector
    place = artifacts / kind / name.removeprefix(f"{kind}/")
    if place.exists() or not path.exists():
        if "/" in name and not place.parent.is_dir():
            raise _NoSuchName("no such file or folder", where=name, way_out="check the path")
        return place, selector
    return path, selector


def _run(spec: str, artifacts: Path, kind: Literal["backbones", "heads"]) -> Run:
    place, selector = _split(spec, artifacts, kind)
    if place.is_file() and place.suffix == ".safetensors":
        return Run(place.parent, place.stem)
    if is_run(place):
        return Run(place)
    if not place.exists() and place.parent.is_dir() and place.parent.parent == artifacts / kind:
        place, selector = place.parent, selector or place.name
    candidates = runs(place if place.is_dir() and not is_store(place) else _named(place, kind))
    if selector in ("", "latest", "best"):
        return Run(_choose_finished(place, candidates, selector, kind))
    long = len(selector) >= _PREFIX
    fitting = [path for path in candidates if path.name == selector or (long and path.name.startswith(selector))]
    if len(fitting) > 1:
        raise _ambiguous(f"{place.name}@{selector}", kind, [path.name for path in fitting])
    if not fitting:
        have = ", ".join(path.name for path in candidates) or "none"
        what, way_out = f"no run {selector!r} of {place.name!r}", f"have: {have}"
        if selector == "last" and candidates:
            way_out += f"; the last weights of a run are {place.name}/{candidates[-1].name}/last.safetensors"
        raise CheckpointError(what, where=str(place), way_out=way_out)
    return Run(fitting[0])


def _choose_finished(place: Path, candidates: list[Path], selector: str, kind: Kind) -> Path:
    finished = {path: found for path in candidates if (found := card(path)).get("finished")}
    if not finished:
        with_weights = [f"{place.name}@{path.name}" for path in candidates if (path / "best.safetensors").is_file()]
        way_out = f"run '{_MADE_BY[kind]}' again to finish it"
        way_out += f", or name a run: {', '.join(with_weights)}" if with_weights else ""
        raise CheckpointError(f"no finished run of {_SINGULAR[kind]} {place.name!r}", where=str(place), way_out=way_out)
    if selector != "best" or len(finished) == 1:
        return list(finished)[-1]
    if unscored := [path.name for path, found in finished.items() if not isinstance(found.get("score"), int | float)]:
        way_out = f"name a run: {place.name}@<run>"
        raise CheckpointError(f"no score in the card of {', '.join(unscored)}", where=str(place), way_out=way_out)
    decided = {(found.get("monitor", "val/loss"), found.get("monitor_mode", "min")) for found in finished.values()}
    if len(decided) > 1:
        metrics = ", ".join(sorted(f"{name} ({mode})" for name, mode in decided))
        what = f"the runs were judged by different metrics ({metrics}), so none is best"
        raise CheckpointError(what, where=str(place), way_out=f"name a run: {place.name}@<run>")
    choose = max if decided.pop()[1] == "max" else min
    return choose(finished, key=lambda path: float(finished[path]["score"]))


def _version(store: Path, selector: str) -> int:
    """Snapshot number for a selector: '' or 'latest', a number, or a prefix of a snapshot's hash (see `hash_fits`)."""
    numbers = versions(store)
    if not numbers:
        of_features = _kind_of(store) == "features"
        elsewhere = of_features and store.resolve().parent.name != "features"
        command = _MADE_BY["features" if of_features else "datasets"] + (f" … --set out={store}" if elsewhere else "")
        way_out = f"run '{command}' to finish it"
        raise StoreError("holds no version yet", where=str(store), way_out=way_out)
    if selector in ("", "latest"):
        return numbers[-1]
    if selector.isdigit() and int(selector) in numbers:
        return int(selector)
    hashes = {n: str(read_json(store / "snapshots" / f"{n}.json").get("hash", "")) for n in numbers}
    fitting = [n for n in numbers if hash_fits(selector, hashes[n])]
    if len({hashes[n] for n in fitting}) > 1:
        what = f"hash prefix {selector!r} fits versions {fitting}"
        raise StoreError(what, where=str(store), way_out="give more digits")
    if not fitting:
        have = ", ".join(f"{n} ({hashes[n][:8]})" for n in numbers)
        raise StoreError(f"no version {selector!r}", where=str(store), way_out=f"have: {have}")
    return fitting[-1]


def hash_fits(selector: str, digest: str) -> bool:
    """Whether a selector is the beginning of a version's hash, and not a number that no version has."""
    return len(selector) >= (_PREFIX_OF_DIGITS if selector.isdigit() else _PREFIX) and digest.startswith(selector)


def _named(place: Path, kind: Kind, short: Iterable[str] = ()) -> Path:
    """The folder itself if it exists; else the error that names the nearest, of folders and short names."""
    if place.is_dir():
        raise _NoSuchName(f"is not a {_SINGULAR[kind]}", where=str(place), way_out="give its name or its folder")
    names = [*short, *(path.name for path in folders(place.parent))]
    way_out = nearest(place.name, names) if names else f"make one with '{_MADE_BY[kind]}'"
    raise _NoSuchName(f"no {_SINGULAR[kind]} {place.name!r} in {place.parent}", way_out=way_out)


def _ambiguous(name: str, kind: Kind | None, fitting: Iterable[str]) -> FrzError:
    error = ConfigError if kind is None else StoreError if kind in ("datasets", "features") else CheckpointError
    return error(f"{name!r} fits several: {', '.join(fitting)}", way_out="give one of them")
