"""Artifacts: where they lie (`places`) and what a name for one means (`naming`)."""

from frz.artifacts.naming import Artifact, Run, StoreVersion, backbone, dataset, features, find, head, weights
from frz.artifacts.places import (
    KINDS,
    Kind,
    card,
    entries,
    features_name,
    latest_snapshot,
    read_json,
    root,
    run_path,
    runs,
    store_path,
    versions,
)

__all__ = [
    "KINDS",
    "Artifact",
    "Kind",
    "Run",
    "StoreVersion",
    "backbone",
    "card",
    "dataset",
    "entries",
    "features",
    "features_name",
    "find",
    "head",
    "latest_snapshot",
    "read_json",
    "root",
    "run_path",
    "runs",
    "store_path",
    "versions",
    "weights",
]
