"""Help of options that several commands have."""

from __future__ import annotations

from fastgan.utils.choices import DEVICES, PRECISIONS, listed
from fastgan.utils.reserved import FEATURES_WORDS

DEVICE_HELP = f"{listed(DEVICES)}."
PRECISION_HELP = f"{listed(PRECISIONS)}."
FEATURES_HELP = f"VGG-19 weights: {listed((*FEATURES_WORDS, 'a file'))}."
