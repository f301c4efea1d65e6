"""What classical models on summary statistics reach on stays in intensive care: the yardsticks of heads.

`python -m benchmarks icu_baseline --json --out artifacts/yardsticks` reads a data set of stays, makes of each stay the
first, last, mean, least and greatest value and the number of measurements of every variable beside its descriptors,
trains on all splits but the test split, and prints AUROC and AUPRC there. With `--out` the probabilities are written as
`frz predict` writes a head's, so that `frz compare HEAD --scores FILE` pairs them with a head's, event by event.

PCA of the statistics and a logistic regression is to a frozen representation what a linear probe is: `pca_logistic` of
the statistics as they are, `pca_logistic_more` with the descriptors, and with outliers held at five standard
deviations. Gradient boosting sees all of them.
"""

# Axes: N stays, E elements (measurements) of all stays, V variables, F statistics.

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frz import artifacts as names
from frz.evaluation.bootstrap import percentiles, weights
from frz.heads.scores import ClassScores
from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import GROUP, ID, EventArrays, Schema

Floats = NDArray[np.float64]

STATISTICS = ("first", "last", "mean", "min", "max", "count")
LABEL, STATIC = "event/label", "event/static"
VARIABLE, VALUE, CODES = "element/variable", "element/value", "variable/code"
UNIT = "icu_type"
"""A descriptor that is a class, not a number."""
LEVEL = 0.95
SPREADS = 5.0
"""A statistic counts at most so many standard deviations."""


def statistics(events: EventArrays, schema: Schema, n_variable: int) -> Floats:
    """Statistics (N, 6 V) of the measurements of every stay, in the order of `STATISTICS`; NaN where there are none.

    Parameters
    ----------
    events : EventArrays
        `element/variable`, `element/value` with their offsets; the elements of a stay in the order of time.
    schema : Schema
    n_variable : int
        V; codes are below it.
    """
    n_stay = len(events[ID])
    stay = np.repeat(np.arange(n_stay), ragged.lengths(events, schema, "element"))
    cell = stay * n_variable + events[VARIABLE].astype(np.int64)
    order = np.argsort(cell, kind="stable")
    cell, value = cell[order], events[VALUE][order].astype(np.float64)
    begin = np.flatnonzero(np.append(True, cell[1:] != cell[:-1])[: len(cell)])
    count = np.diff(np.append(begin, len(cell)))
    found = np.full((n_stay * n_variable, len(STATISTICS)), np.nan)
    found[:, -1] = 0
    if len(begin):
        sums = np.add.reduceat(value, begin)
        low, high = np.minimum.reduceat(value, begin), np.maximum.reduceat(value, begin)
        found[cell[begin]] = np.stack([value[begin], value[begin + count - 1], sums / count, low, high, count], 1)
    return found.reshape(n_stay, n_variable * len(STATISTICS))


def descriptors(events: EventArrays, schema: Schema) -> Floats:
    """Descriptors of the stays (N, ...), the kind of unit as a column per kind."""
    if STATIC not in schema.arrays:
        return np.zeros((len(events[ID]), 0))
    columns, values = schema.arrays[STATIC].columns, events[STATIC].astype(np.float64)
    pieces = [values[:, [place for place, name in enumerate(columns) if name != UNIT]]]
    if UNIT in columns:
        unit = values[:, columns.index(UNIT)]
        pieces.append((unit[:, None] == np.unique(unit[~np.isnan(unit)])).astype(np.float64))
    return np.concatenate(pieces, 1)


def pca_logistic(n_component: int, seed: int) -> Any:
    """PCA of standardised statistics and a logistic regression."""
    return make_pipeline(StandardScaler(), PCA(n_component, random_state=seed), LogisticRegression(max_iter=2000))


def filled(features: Floats, known: Floats, spreads: float = np.inf) -> Floats:
    """Features (n, F) with the mean of `known` (those of the training stays) for what is missing.

    What is more than `spreads` of their standard deviations from that mean is brought to that distance.
    """
    middle, width = np.nanmean(known, 0), np.nanstd(known, 0)
    reach = spreads * width if np.isfinite(spreads) else np.full_like(width, np.inf)
    return np.where(np.isnan(features), middle, np.clip(features, middle - reach, middle + reach))


def boosting(seed: int) -> Any:
    """Gradient boosting of shallow trees, slowly; it knows what is missing."""
    return HistGradientBoostingClassifier(
        learning_rate=0.03,
        max_iter=400,
        max_leaf_nodes=15,
        min_samples_leaf=30,
        l2_regularization=1.0,
        max_features=0.2,
        random_state=seed,
    )


def measure(probability: Floats, label: NDArray[np.int64], groups: NDArray[np.int64], n: int) -> dict[str, Any]:
    """AUROC and AUPRC with 95 % intervals of samples drawn with replacement."""
    scores = ClassScores(np.stack([1 - probability, probability], 1), label)
    whole, drawn = scores.metrics(), [scores.metrics(rows) for rows in weights(groups, n)]
    result: dict[str, Any] = {}
    for name in ("auc", "auprc"):
        low, high = percentiles(np.concatenate([block[name] for block in drawn]), LEVEL) or (None, None)
        result[name] = {"value": float(whole[name][0]), "low": low, "high": high}
    return result


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks icu_baseline", description=__doc__)
    parser.add_argument("--artifacts", default=None, help="where artifacts lie")
    parser.add_argument("--data", default="physionet2012", help="data set of stays")
    parser.add_argument("--test", default="test", help="split that is measured; all others are trained on")
    parser.add_argument("--components", type=int, default=64, help="of the PCA")
    parser.add_argument("--resamples", type=int, default=1000, help="samples drawn for the intervals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the scores of the test split")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()

    place = names.store_path(names.root(options.artifacts), "datasets", options.data)
    store = EventStore(place, max(names.versions(place)))
    static = [STATIC] if STATIC in store.schema.arrays else []
    events = store.range(0, store.n_events, [ID, GROUP, LABEL, VARIABLE, VALUE, *static])
    measured = statistics(events, store.schema, store.schema.static[CODES].shape[0])
    features = np.concatenate([measured, descriptors(events, store.schema)], 1)
    known = events[LABEL] >= 0
    test = np.zeros(store.n_events, bool)
    test[store.split(options.test)] = True
    train, tested = known & ~test, known & test
    label = events[LABEL].astype(np.int64)

    plain = pca_logistic(options.components, options.seed)
    models: dict[str, tuple[Any, Floats]] = {
        "pca_logistic": (plain, filled(measured, measured[train])),
        "pca_logistic_more": (plain, filled(features, features[train], SPREADS)),
        "boosting": (boosting(options.seed), features),
    }
    told: dict[str, Any] = {
        "data": f"{options.data}@{store.snapshot.version}",
        "train": int(train.sum()),
        "test": int(tested.sum()),
        "positives": int(label[tested].sum()),
        "statistics": features.shape[1],
    }
    for name, (model, seen) in models.items():
        model.fit(seen[train], label[train])
        p = model.predict_proba(seen[test])[:, 1]  # of all stays: a head may count others
        told[name] = measure(p[known[test]], label[tested], events[GROUP][tested], options.resamples)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            columns = {"event_id": events[ID][test], "event_label": (p > 0.5).astype(np.int8)}
            table = pyarrow.table(columns | {"event_label_probability": p})
            parquet.write_table(table, options.out / f"{name}.parquet")
            told[name]["scores"] = str(options.out / f"{name}.parquet")
    print(json.dumps(told, indent=1) if options.json else _lines(told))


def _lines(told: dict[str, Any]) -> str:
    lines = [f"{key}: {value}" for key, value in told.items() if not isinstance(value, dict)]
    for name, found in told.items():
        if isinstance(found, dict):
            numbers = (f"{key} {found[key]['value']:.4f}" for key in ("auc", "auprc"))
            lines.append(f"{name}: {', '.join(numbers)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
