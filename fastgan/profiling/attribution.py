"""Whose work a profile's time is: every event of a step to a network, the losses, the optimiser or the data.

Work of a forward pass belongs to the range around it. Work of a backward pass belongs to whom the forward op belonged
that made the autograd node: both carry the node's sequence number.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Around each step of a profile.
STEP = "fastgan/step"
#: A range that says whose the work is, whatever phase it lies in.
PART = "fastgan/part/"
_PHASE = "fastgan/"
_NODE = "autograd::engine::evaluate_function: "
#: What torch.library makes of an op: its forward, in which the op's kernel runs with no event of its own, or its node.
_GENERATED = re.compile(r"GeneratedBackwardFor_fastgan_(.+)_default(Backward)?")

#: In this order in tables.
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
        thread: where it ran.
        sequence: of the autograd node that it made or, in a backward pass, is; -1 without one.
        forward_thread: where that node was made.
        annotation: a ``record_function`` range and no op.
        kernels: what it launched on the GPU, by name, microseconds.
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
    """Self time of one kind of op or kernel, seconds, and how often it ran."""

    seconds: float = 0.0
    calls: int = 0


@dataclass
class Attribution:
    """Sums over all steps of a profile, seconds.

    Attributes:
        steps: how many.
        seconds: of the steps.
        host: phase ("" outside of all) -> owner and direction -> time of the thread that runs the step.
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
class _Place:
    phase: str
    owner: str
    direction: str


@dataclass
class _Open:
    event: Event
    place: _Place
    inside: float = 0.0


class _Nodes:
    """Owners of autograd nodes, by the thread and the sequence number that their forward op had."""

    def __init__(self) -> None:
        self._owners: dict[int, dict[int, str]] = defaultdict(dict)
        self._numbers: dict[int, list[int]] = defaultdict(list)

    def made(self, event: Event, owner: str) -> None:
        # Several ops see one number, those that make no node and then the one that does: the last counts.
        if event.sequence not in self._owners[event.thread]:
            bisect.insort(self._numbers[event.thread], event.sequence)
        self._owners[event.thread][event.sequence] = owner

    def owner(self, event: Event) -> str | None:
        """Of a node without an op of its number (C++ that records none): that of the op before."""
        numbers = self._numbers[event.forward_thread]
        place = bisect.bisect_right(numbers, event.sequence)
        return self._owners[event.forward_thread][numbers[place - 1]] if place else None


def events_of(profile: Any) -> list[Event]:
    """The host's events of a ``torch.profiler.profile`` that is done."""
    from torch.autograd import DeviceType

    events = []
    for each in profile.events():
        if each.device_type != DeviceType.CPU or each.is_async:
            continue
        # A range counts the kernels of the ops in it as its own.
        kernels = () if each.is_user_annotation else tuple((kernel.name, kernel.duration) for kernel in each.kernels)
        events.append(
            Event(
                name=each.name,
                start=each.time_range.start,
                end=each.time_range.end,
                thread=each.thread,
                sequence=each.sequence_nr,
                forward_thread=each.fwd_thread or each.thread,
                annotation=bool(each.is_user_annotation),
                kernels=kernels,
            )
        )
    return events


def attribute(events: Iterable[Event]) -> Attribution:
    """Sort the time of all steps (ranges ``STEP``) by phase, owner and direction, and by op.

    What runs in no step counts nowhere. On threads other than the step's, kernels and ops alone count: their time runs
    beside the step's.
    """
    result = Attribution()
    ordered = sorted(events, key=lambda event: (event.start, -event.end))
    steps = [event for event in ordered if event.name == STEP]
    result.steps = len(steps)
    result.seconds = sum(step.end - step.start for step in steps) / 1e6
    starts = [step.start for step in steps]
    nodes = _Nodes()
    stacks: dict[int, list[_Open]] = defaultdict(list)
    last_node: dict[int, str] = {}
    for event in ordered:
        number = bisect.bisect_right(starts, event.start) - 1
        if number < 0 or event.start >= steps[number].end:
            continue
        stack = stacks[event.thread]
        while stack and stack[-1].event.end <= event.start:
            _close(stack.pop(), result, steps[0].thread)
        around = stack[-1].place if stack else _Place("", "other", "forward")
        place = _place(event, around, nodes, last_node)
        if stack:
            stack[-1].inside += event.end - event.start
        stack.append(_Open(event, place))
        if event.sequence >= 0 and not event.name.startswith(_NODE):
            nodes.made(event, place.owner)
    for stack in stacks.values():
        while stack:
            _close(stack.pop(), result, steps[0].thread)
    return result


def split(honest: Mapping[str, float], profile: Attribution) -> dict[str, dict[str, float]]:
    """Seconds by owner and direction of ``honest``, seconds by phase without a profiler ("" outside of all phases).

    A phase is divided as in the profile; one that the profile has not seen belongs to its own owner.
    """
    made = {owner: dict.fromkeys(DIRECTIONS, 0.0) for owner in OWNERS}
    for phase, seconds in honest.items():
        shares = profile.host.get(phase) or {(_owner(phase), "forward"): 1.0}
        total = sum(shares.values())
        for (owner, direction), share in shares.items():
            made[owner][direction] += seconds * (share / total if total else 1 / len(shares))
    return made


def top(work: Mapping[str, Work], count: int) -> Sequence[tuple[str, Work]]:
    """The ``count`` with the most time, most first."""
    return sorted(work.items(), key=lambda item: -item[1].seconds)[:count]


def _place(event: Event, around: _Place, nodes: _Nodes, last_node: dict[int, str]) -> _Place:
    if event.name.startswith(_NODE):
        # Nodes without a number add a gradient to a parameter's; they run right after the node that made it.
        owner = last_node.get(event.thread) if event.sequence < 0 else nodes.owner(event)
        last_node[event.thread] = owner or around.owner
        return _Place(around.phase, last_node[event.thread], "backward")
    if not event.annotation or around.direction == "backward" or event.name == STEP:
        return around
    if event.name.startswith(PART):
        return _Place(around.phase, _known(event.name.removeprefix(PART)), "forward")
    if event.name.startswith(_PHASE):
        phase = event.name.removeprefix(_PHASE)
        return _Place(phase, _owner(phase), "forward")
    return around


def _owner(phase: str) -> str:
    # Waiting for a batch is the data's, what a phase "backward" does outside of nodes nobody's.
    return "data" if phase == "wait" else _known(phase)


def _known(name: str) -> str:
    return name if name in OWNERS else "other"


def _close(opened: _Open, result: Attribution, main: int) -> None:
    event, place = opened.event, opened.place
    own = max(0.0, event.end - event.start - opened.inside) / 1e6
    share = (place.owner, place.direction)
    if event.thread == main:
        result.host[place.phase][share] += own
    generated = _GENERATED.fullmatch(event.name)
    name = PYTHON if event.annotation else ENGINE if event.name.startswith(_NODE) else event.name
    if generated:
        name = PYTHON if generated[2] else f"fastgan::{generated[1]}"
    result.ops[name].seconds += own
    result.ops[name].calls += generated is None
    for kernel, microseconds in event.kernels:
        result.kernels[share] += microseconds / 1e6
        result.kernel_ops[kernel].seconds += microseconds / 1e6
        result.kernel_ops[kernel].calls += 1
