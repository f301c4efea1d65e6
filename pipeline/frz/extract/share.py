"""Sharing the jobs of an extraction with whoever else does them: other processes, on this machine or on others."""

from collections.abc import Container, Iterator
from pathlib import Path

from frz.extract.cluster import Workers
from frz.extract.jobs import Job
from frz.extract.plan import Plan
from frz.extract.work import Work
from frz.progress import progress
from frz.store.lease import Leases
from frz.store.part import CommitRecord, PartRef, find_part, part_name


def share_jobs(
    work: Work,
    plan: Plan,
    missing: list[Job],
    receipts: list[dict[str, PartRef]],
    workers: Workers,
    leases: Leases,
) -> int:
    """Do what is missing together with whoever else is doing it; returns when all jobs are done.

    Parameters
    ----------
    receipts : list of dict
        Per job of the plan and group, the part that holds it; filled.

    Returns
    -------
    int
        Events that ran through the backbone here.
    """
    total, n_run = sum(job.without(receipts[job.number]).n_forward for job in missing), 0
    with progress(f"extract {work.frozen.card.name}", total=total, unit="event") as bar:
        for job, records in workers.do(work, _claim(missing, work.root, receipts, leases), total):
            receipts[job.number] |= {group: reference(record) for group, record in records.items()}
            leases.release(plan.jobs[job.number].lease)
            n_run += job.n_forward
            bar.advance(job.n_forward)
    return n_run


def _claim(jobs: list[Job], root: Path, receipts: list[dict[str, PartRef]], leases: Leases) -> Iterator[Job]:
    """Jobs that nobody else has, until every job is done or ours; what others do is waited for."""
    while jobs:
        others = []
        for job in jobs:
            if not leases.take(job.lease):
                others.append(job)
            elif is_done(job, root, receipts):  # by another, before we had the lease
                leases.release(job.lease)
            else:
                yield job.without(receipts[job.number])
        jobs = [job for job in others if not is_done(job, root, receipts)]
        if len(jobs) == len(others) and jobs:
            leases.pause()


def is_done(job: Job, root: Path, receipts: list[dict[str, PartRef]], there: Container[str] | None = None) -> bool:
    """Note which parts of a job are committed (`there`: names of those in place, to spare a look at each)."""
    for group, key in job.keys.items():
        if there is None or part_name(group, key) in there:
            record = find_part(root, group, key)
            if record is not None:
                receipts[job.number][group] = reference(record)
    return len(receipts[job.number]) == len(job.keys)


def reference(record: CommitRecord) -> PartRef:
    """How a snapshot refers to a part."""
    return PartRef(record.key, record.digest)
