"""Is a training run whole? Every weight file against its checksums, and the card against the weights."""

from pathlib import Path

from frz import artifacts as names
from frz.errors import CheckpointError, StoreError
from frz.training.checkpoint import load
from frz.training.record import BEST


def verify(run: Path) -> tuple[list[Path], list[str]]:
    """Read all checkpoints of a backbone's or a head's run, and its card.

    Returns
    -------
    files : list of Path
        What was read.
    damages : list of str
        What is wrong, one line each.
    """
    card, damages, said = run / "card.json", [], {}
    weights = sorted(run.glob("*.safetensors"))
    if not card.is_file() and not weights:  # killed at its very start
        return [], []
    try:
        said = names.read_json(card)
    except StoreError as error:
        damages.append(str(error))
    if said.get("finished") and not (run / BEST).is_file():
        damages.append(f"{run / BEST}: is missing; put a copy of it back, or remove the folder and train again")
    for file in weights:
        try:
            _, meta = load(file)
        except CheckpointError as error:
            damages.append(str(error))
            continue
        if file.name == BEST and "fingerprint" in said and meta.get("fingerprint") != said["fingerprint"]:
            damages.append(f"{card}: its fingerprint is not that of {BEST}; one of the two is of another run")
    return [card, *weights], damages
