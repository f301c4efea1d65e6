"""The report of `frz extract --fidelity` for people: a table per array, one for all together, one for the head."""

from collections.abc import Mapping
from typing import Any


def tables(report: Mapping[str, Any]) -> dict[str, Any]:
    """What `emit` shows of a report; the whole of it is for `--json`."""
    head = report["head"]
    found = {key: report[key] for key in ("backbone", "data", "path")}
    found["sample"] = f"{report['train_events']:,} events to learn from, {report['val_events']:,} to judge on"
    found["reference head"] = f"{head['head']}, mean of {head['seeds']} seeds" if head else "none fits these features"
    exact, asked = report["together"]["float32"], report["together"]["asked"]
    share = asked["bytes"] / exact["bytes"] if exact["bytes"] else 1.0
    found["as asked for"] = f"{share:.0%} of the bytes of float32; {_worst(head, asked['head'])}"
    arrays = {
        name: {
            dtype: {
                "bytes per event": row["bytes_per_event"],
                "MB in all": row["bytes"] / 1e6,
                "error of its size": f"{row['error']:.1e}",
                "largest error": f"{row['largest_error']:.1e}",
                "do not fit": row["unfit"],
                "the head": _worst(head, row["head"]),
            }
            for dtype, row in types.items()
        }
        for name, types in report["arrays"].items()
    }
    together = {
        name: {
            "bytes per event": mix["bytes_per_event"],
            "MB in all": mix["bytes"] / 1e6,
            "the head": _worst(head, mix["head"]),
        }
        for name, mix in report["together"].items()
    }
    found |= {"arrays": arrays, "all together": together}
    if head:
        found["metrics"] = {
            key: {
                "float32": f"{head['metrics'][key]:.4g} ± {head['spread'][key]:.1g}",
                **{
                    name: "-" if mix["head"] is None else f"{mix['head'][key]:+.1g}"
                    for name, mix in report["together"].items()
                    if name != "float32"
                },
            }
            for key in head["main"]
        }
    return found


def _worst(head: Mapping[str, Any] | None, change: Mapping[str, float] | None) -> str:
    """The metric that changes most beside its spread over the seeds, in words."""
    if change is None:
        return "values do not fit: extraction would refuse"
    if head is None:
        return "-"
    if not any(change[key] for key in head["main"]):
        return "no change"
    key = max(head["main"], key=lambda name: abs(change[name]) / (head["spread"][name] + 1e-12))
    before = head["metrics"][key]
    return f"{key} {before:.4g} -> {before + change[key]:.4g} (seeds ±{head['spread'][key]:.1g})"
