"""The tensors of an output written in the order of its files, as they are sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from bertconv.containers.stored import Span
from bertconv.formats import ranges, workers
from bertconv.formats.checksum import Taken
from bertconv.formats.content import OutputFile, Placed
from bertconv.formats.remote.flow import Flow, Task
from bertconv.formats.remote.site import Site
from bertconv.formats.transfer import transfer


def write_in_order(
    site: Site, files: Sequence[OutputFile], progress: workers.Tick, *, checksums: bool
) -> Mapping[str, Taken]:
    """Write files of weights to a store, each from its beginning to its end.

    Args:
        site: where to.
        files: laid out.
        progress: called with bytes as they are written.
        checksums: take them of every tensor on the way.

    Returns:
        As `writing.write_weights`, whose errors these are too.
    """
    flow = Flow(site, files)
    local = workers.Local()
    jobs = [job for number, file in enumerate(files) for job in _jobs(flow, number, file, local, checksums=checksums)]
    tasks = [Task(spans) for spans, _ in jobs]
    given_up = True
    try:
        flow.start([task for task in tasks if not task.is_done])
        batch = [partial(_work, flow, task, work) for task, (_, work) in zip(tasks, jobs, strict=True)]
        found = workers.run_batches([batch], progress)
        given_up = False
    finally:
        flow.finish(given_up=given_up)
    return {name: taken for one in found for name, taken in one.items()}


def _jobs(
    flow: Flow, number: int, file: OutputFile, local: workers.Local, *, checksums: bool
) -> Iterator[tuple[list[Span], ranges.Work]]:
    """The bytes of every task of a file, counted through all files, and what writes them; in their order."""
    fd, start = flow.fds[number], flow.starts[number]
    found: list[tuple[int, list[Span], ranges.Work]] = []
    for run in ranges.runs(file.tensors):
        for part in ranges.parts(run):
            work: ranges.Work = partial(ranges.copy, part, fd, local, checksums)
            found.append((part.offset, [Span(start + part.offset, part.nbytes)], work))
    for placed in file.tensors:
        if not placed.is_range:
            spans = [Span(start + span.start, span.nbytes) for span in _filled(placed)]
            found.append((placed.spans[0].start, spans, partial(transfer, placed, fd, local, checksums)))
    for _, spans, work in sorted(found, key=lambda one: one[0]):
        yield spans, work


def _filled(placed: Placed) -> list[Span]:
    return [span for span in placed.spans if span.nbytes]


def _work(flow: Flow, task: Task, work: ranges.Work, tick: workers.Tick) -> dict[str, Taken]:
    return work(tick if task.is_done else flow.moving(task, tick))
