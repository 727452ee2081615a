"""The help of commands that train: names and defaults as the registries and the config have them."""

from helpers.command_line import Command

from fastgan.models import GENERATORS
from fastgan.training.run_length import DEFAULT_STEPS
from fastgan.training.tasks import TASKS
from fastgan.utils.choices import listed


def test_help_has_what_the_registries_have(fastgan: Command) -> None:
    help_text = " ".join(fastgan("train", "--help").out.split())
    for says in (
        "or demo. [default: demo, none for dcgan]",
        "[default: 256, 64 for dcgan]",
        "[default: 4, 32 for dcgan]",
        f"[default: {DEFAULT_STEPS}]",
        f"The network: {listed(tuple(GENERATORS))}. [default: fast]",
        f"What to learn: {listed(tuple(TASKS))}.",
        "VGG-19 weights: vgg19, torchvision, random or a file. [default: vgg19]",
    ):
        assert says in help_text, says
    assert "[default: 256, 64 for dcgan]" in " ".join(fastgan("profile", "--help").out.split())
