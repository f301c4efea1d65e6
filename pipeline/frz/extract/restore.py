"""Making lost parts of a feature store again: the backbone on exactly the events that a part held, in the same batches.

On one machine a part that was made whole comes out with the same bytes. Elsewhere last bits differ, and annotations,
which are functions of the features as stored, are made again wherever they do not fit these any more.
"""

from functools import cache, partial
from pathlib import Path

from frz.extract import engine
from frz.extract.settings import ANNOTATION, FEATURES, group_of
from frz.store import repair as mend
from frz.store.lost import open_checked
from frz.store.repair import LostPart, Outcome
from frz.store.schema import KEY, EventArrays
from frz.store.snapshot import Snapshot
from frz.store.verify import Report


def repair(root: Path, artifacts: Path, report: Report) -> tuple[list[Outcome], Snapshot | None]:
    """Mend a feature store; data set and backbone are found among the artifacts. See `frz.store.repair.repair`."""
    report.damages.sort(key=lambda damage: damage.group == ANNOTATION)  # annotations are made of features
    restore = Restore(root, artifacts)
    return mend.repair(root, report, restore.remake, follow=restore.follow)


class Restore:
    """Makes what a feature store has lost.

    Parameters
    ----------
    root : Path
        The feature store.
    artifacts : Path
        Where artifacts lie.
    """

    def __init__(self, root: Path, artifacts: Path) -> None:
        self.root, self.artifacts = root, artifacts
        self._version = cache(partial(open_checked, root))
        self._data = cache(open_checked)
        self._frozen = cache(self._load)

    def remake(self, lost: LostPart) -> EventArrays:
        """All arrays of a part.

        Raises
        ------
        FrzError
            If the weights or the events that it was made from are gone, or are not what they were.
        """
        made = self._written_for(lost)
        out = made.schema
        if lost.group not in (FEATURES, ANNOTATION):
            return self._events(lost, group_of(out, lost.group).arrays)[1].arrays
        data, settings, frozen = self._made_with(made, lost)
        inputs, targets = frozen.module.inputs, frozen.module.targets
        with _threads(made.snapshot.about["made_with"].get("threads")):
            if lost.group == FEATURES:
                table = self._events(lost, [*inputs, KEY])[1]
                run = range(table.n_events)
                features = engine.features_of(frozen.module, table, run, out, settings, frozen.device)
                return features | table.range(0, table.n_events, [KEY])
            table = self._events(lost, dict.fromkeys([*inputs, *targets]))[1]
            features, run = self._features(lost), range(table.n_events)
            return engine.annotate(frozen.module, table, run, features, out, settings, frozen.device)
