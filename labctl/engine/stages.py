"""Run stages as soon as those that they need are finished, and share the lab's processor time among them."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from labctl.host.threads import results
from labctl.plan.planner import Stage
from labctl.records.journal import StageRecord


class Meter:
    """What each of several works that go on side by side takes of one count of seconds.

    :param read: the count.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._last = read()
        self._spent: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """A work begins."""
        self._share()
        self._spent[name] = 0.0

    def end(self, name: str) -> float:
        """A work is over; return its seconds: while others went on, an equal share of all."""
        self._share()
        return self._spent.pop(name)

    def _share(self) -> None:
        now = self._read()
        for name in self._spent:
            self._spent[name] += (now - self._last) / len(self._spent)
        self._last = now


@dataclass
class _Running:
    stage: Stage
    began: float


def needs(stages: Sequence[Stage], stage: Stage) -> tuple[str, ...]:
    """The names of the stages that must be finished before one of a plan."""
    if stage.needs is not None:
        return stage.needs
    position = stages.index(stage)
    return (stages[position - 1].name,) if position else ()


def execute(
    stages: Sequence[Stage],
    due: Sequence[Stage],
    run: Callable[[Stage], list[str]],
    finished: Callable[[StageRecord], None],
    cpu_seconds: Callable[[], float],
    *,
    alone: bool = False,
) -> None:
    """Run the due stages of a plan, each when all that it needs is finished; those that are not due are.

    After a failure no other stage begins; those that run are waited for, as they may finish and need not be repeated.

    :param run: does a stage and returns the states of its operations.
    :param finished: called in this thread for each finished stage.
    :param cpu_seconds: the processor time of all that the stages run on.
    :param alone: one after another.
    :raises LabError: stages failed; reports all of them.
    """
    waiting = list(due)
    unfinished = {stage.name for stage in due}
    running: dict[Future[list[str]], _Running] = {}
    failed: list[Future[list[str]]] = []
    meter, pool = Meter(cpu_seconds), ThreadPoolExecutor(len(due))
    try:
        while running or (waiting and not failed):
            for stage in [] if failed else list(waiting):
                if alone and running:
                    break
                if unfinished.isdisjoint(needs(stages, stage)):
                    waiting.remove(stage)
                    meter.begin(stage.name)
                    future = pool.submit(contextvars.copy_context().run, run, stage)
                    running[future] = _Running(stage, time.monotonic())
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                ended = running.pop(future)
                cpu = meter.end(ended.stage.name)
                if future.exception() is not None:
                    failed.append(future)
                    continue
                unfinished.discard(ended.stage.name)
                states, seconds = future.result(), time.monotonic() - ended.began
                finished(
                    StageRecord(
                        ended.stage.name,
                        "",
                        time.time(),
                        round(seconds, 3),
                        round(cpu, 3),
                        states.count("changed"),
                        states.count("ok"),
                    )
                )
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    results(failed)
