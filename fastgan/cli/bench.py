"""``fastgan bench``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from fastgan.bench.options import OPTIONS, SUITE_HELP, SUITE_METAVAR, Option, split_names


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = option.type | None if option.default is None else option.type
    flag = option.flag
    if option.type is bool and option.default is None:
        flag += f"/--no-{option.flag.removeprefix('--')}"
    annotation = Annotated[kind, typer.Option(flag, help=option.help, metavar=option.metavar)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation)


def _with_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give ``command`` the options of the benchmarks, which it gets as keywords."""
    suite = next(iter(inspect.signature(command, eval_str=True).parameters.values()))
    parameters = [suite, *map(_parameter, OPTIONS)]
    command.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": int}
    return command


@_with_options
def bench(suite: Annotated[str, typer.Argument(metavar=SUITE_METAVAR, help=SUITE_HELP)] = "all", **options: Any) -> int:
    """Measure fastgan against plain torch, torch.compile and the packages installed, and against the machine's limits.

    "ops" is every op by itself, "train" the whole training step, "infer" a picture through the network, "loader" the
    data loader. Providers take turns, medians are compared, and an incorrect result gets no ratio.
    """
    from fastgan.bench.run import bench as run

    return run(suite, **{**options, "only": split_names(options["only"])})
