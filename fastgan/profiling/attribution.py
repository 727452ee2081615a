"""Attribute profiled time to networks, losses, optimizer and data.

A forward op is charged to the owner of the range that encloses it. A backward op is charged to the owner of the forward
op that created its autograd node: both carry the node's sequence number.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: The range of event step.
STEP = "fastgan/step"
#: Prefix of ranges that name the owner, whatever the phase.
PART = "fastgan/part/"
_PHASE = "fastgan/"
_NODE = "autograd::engine::evaluate_function: "
#: Events that torch.library generates for an op: its forward, in which the kernel has no event, or its autograd node.
_GENERATED = re.compile(r"GeneratedBackwardFor_fastgan_(.+)_default(Backward)?")

#: In the order of tables.
OWNERS = ("data", "generator", "discriminator", "features", "losses", "optimizer", "other")
DIRECTIONS = ("forward", "backward")
PYTHON, ENGINE = "(Python, in ranges)", "(autograd engine)"

#: Owner and direction.
Share = tuple[str, str]


@dataclass(frozen=True)
class Event:
    """An op or range on the host.

    Attributes:
        start, end: microseconds.
        thread: on which it ran.
        sequence: number of the autograd node that it created or, in a backward pass, is; -1 without one.
        forward_thread: where that node was created.
        annotation: whether it is a ``record_function`` range, not an op.
        kernels: that it launched on the GPU, by name, microseconds.
    """

    name: str
    start: float
    end: float
    thread: int = 1
    sequence: int = -1
    forward_thread: int = 1
    annotation: bool = False
    kernels: tuple[tuple[str, float], ...] = ()


@dataclass
class Work:
    """Self time in seconds and number of calls of an op or kernel."""

    seconds: float = 0.0
    calls: int = 0


@dataclass
class Attribution:
    """Sums over all steps of a profile, seconds.

    Attributes:
        steps: their number.
        seconds: their total time.
        host: phase ("" outside of all) -> owner and direction -> time on the thread that runs the step.
        kernels: owner and direction -> time of kernels on the GPU.
        ops: by name, self time on the host.
        kernel_ops: by name, time on the GPU.
    """

    steps: int = 0
    seconds: float = 0.0
    host: dict[str, dict[Share, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    kernels: dict[Share, float] = field(default_factory=lambda: defaultdict(float))
    ops: dict[str, Work] = field(default_factory=lambda: defaultdict(Work))
    kernel_ops: dict[str, Work] = field(default_factory=lambda: defaultdict(Work))


@dataclass(frozen=True)
class _Label:
    phase: str
    owner: str
    direction: str


@dataclass
class _OpenEvent:
    event: Event
    label: _Label
    child_microseconds: float = 0.0


class _Nodes:
    """Owners of autograd nodes, by thread and sequence number of their forward op."""

    def __init__(self) -> None:
        self._owners: dict[int, dict[int, str]] = defaultdict(dict)
        self._numbers: dict[int, list[int]] = defaultdict(list)

    def record(self, event: Event, owner: str) -> None:
        # Several ops see one number, those that create no node and then the one that does: the last counts.
        if event.sequence not in self._owners[event.thread]:
            bisect.insort(self._numbers[event.thread], event.sequence)
        self._owners[event.thread][event.sequence] = owner

    def owner(self, event: Event) -> str | None:
        """The owner of a node; without an op of its number (C++ that records none), that of the op before."""
        numbers = self._numbers[event.forward_thread]
        position = bisect.bisect_right(numbers, event.sequence)
        return self._owners[event.forward_thread][numbers[position - 1]] if position else None


def events_of(profile: Any) -> list[Event]:
    """The host events of a finished ``torch.profiler.profile``."""
    from torch.autograd import DeviceType

    events = []
    for event in profile.events():
        if event.device_type != DeviceType.CPU or event.is_async:
            continue
        # A range would count the kernels of the ops in it as its own.
        kernels = () if event.is_user_annotation else tuple((kernel.name, kernel.duration) for kernel in event.kernels)
        events.append(
            Event(
                name=event.name,
                start=event.time_range.start,
                end=event.time_range.end,
                thread=event.thread,
                sequence=event.sequence_nr,
                forward_thread=event.fwd_thread or event.thread,
                annotation=bool(event.is_user_annotation),
                kernels=kernels,
            )
        )
    return events


def attribute(events: Iterable[Event]) -> Attribution:
    """Sum the time of all steps (ranges ``STEP``) by phase, owner and direction, and by op.

    Work outside of steps is not counted. On other threads than the step's only kernels and ops count: they run in
    parallel.
    """
    result = Attribution()
    ordered = sorted(events, key=lambda event: (event.start, -event.end))
    steps = [event for event in ordered if event.name == STEP]
    result.steps = len(steps)
    result.seconds = sum(step.end - step.start for step in steps) / 1e6
    starts = [step.start for step in steps]
    nodes = _Nodes()
    stacks: dict[int, list[_OpenEvent]] = defaultdict(list)
    last_node: dict[int, str] = {}
    for event in ordered:
        number = bisect.bisect_right(starts, event.start) - 1
        if number < 0 or event.start >= steps[number].end:
            continue
        stack = stacks[event.thread]
        while stack and stack[-1].event.end <= event.start:
            _close(stack.pop(), result, steps[0].thread)
        enclosing = stack[-1].label if stack else _Label("", "other", "forward")
        label = _label_of(event, enclosing, nodes, last_node)
        if stack:
            stack[-1].child_microseconds += event.end - event.start
        stack.append(_OpenEvent(event, label))
        if event.sequence >= 0 and not event.name.startswith(_NODE):
            nodes.record(event, label.owner)
    for stack in stacks.values():
        while stack:
            _close(stack.pop(), result, steps[0].thread)
    return result


def scale_to_unprofiled(unprofiled_seconds: Mapping[str, float], profile: Attribution) -> dict[str, dict[str, float]]:
    """Divide seconds by phase, measured without a profiler ("" outside of all phases), by owner and direction.

    Each phase is divided as in the profile; a phase that the profile lacks belongs to its own owner.
    """
    seconds_by_owner = {owner: dict.fromkeys(DIRECTIONS, 0.0) for owner in OWNERS}
    for phase, seconds in unprofiled_seconds.items():
        shares = profile.host.get(phase) or {(_owner(phase), "forward"): 1.0}
        total = sum(shares.values())
        for (owner, direction), share in shares.items():
            seconds_by_owner[owner][direction] += seconds * (share / total if total else 1 / len(shares))
    return seconds_by_owner


def top(work: Mapping[str, Work], count: int) -> Sequence[tuple[str, Work]]:
    """The ``count`` entries with the most time, in descending order."""
    return sorted(work.items(), key=lambda item: -item[1].seconds)[:count]


def _label_of(event: Event, enclosing: _Label, nodes: _Nodes, last_node: dict[int, str]) -> _Label:
    if event.name.startswith(_NODE):
        # Nodes without a number accumulate a parameter's gradient; they run right after the node that computed it.
        owner = last_node.get(event.thread) if event.sequence < 0 else nodes.owner(event)
        last_node[event.thread] = owner or enclosing.owner
        return _Label(enclosing.phase, last_node[event.thread], "backward")
    if not event.annotation or enclosing.direction == "backward" or event.name == STEP:
        return enclosing
    if event.name.startswith(PART):
        return _Label(enclosing.phase, _known(event.name.removeprefix(PART)), "forward")
    if event.name.startswith(_PHASE):
        phase = event.name.removeprefix(_PHASE)
        return _Label(phase, _owner(phase), "forward")
    return enclosing


def _owner(phase: str) -> str:
    # Waiting for a batch belongs to data; work in the phase "backward" outside of nodes to no owner.
    return "data" if phase == "wait" else _known(phase)


def _known(name: str) -> str:
    return name if name in OWNERS else "other"


def _close(opened: _OpenEvent, result: Attribution, main: int) -> None:
    event, label = opened.event, opened.label
    self_seconds = max(0.0, event.end - event.start - opened.child_microseconds) / 1e6
    share = (label.owner, label.direction)
    if event.thread == main:
        result.host[label.phase][share] += self_seconds
    generated = _GENERATED.fullmatch(event.name)
    name = PYTHON if event.annotation else ENGINE if event.name.startswith(_NODE) else event.name
    if generated:
        name = PYTHON if generated[2] else f"fastgan::{generated[1]}"
    result.ops[name].seconds += self_seconds
    result.ops[name].calls += generated is None
    for kernel, microseconds in event.kernels:
        result.kernels[share] += microseconds / 1e6
        result.kernel_ops[kernel].seconds += microseconds / 1e6
        result.kernel_ops[kernel].calls += 1
