"""The model of ``config.yaml``: its sections together, and the checks over them."""

from __future__ import annotations

from pydantic import Field, model_validator

from fastgan.config.sections import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    QualityConfig,
    Section,
    TrainConfig,
)
from fastgan.config.validation import check_combinations
from fastgan.config.yaml_core import write_yaml
from fastgan.utils.reserved import DATA_WORDS, FEATURES_WORDS, MODEL_WORDS, absolute_text


class Config(Section):
    """A run. ``config.yaml`` in a run folder is this, whole. ``task`` None is the task that the model is made for."""

    task: str | None = None
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    quality: QualityConfig = Field(default_factory=QualityConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    log: LogConfig = Field(default_factory=LogConfig)

    @model_validator(mode="after")
    def _goes_together(self) -> Config:
        check_combinations(self)
        return self

    @model_validator(mode="after")
    def _psnr_term(self) -> Config:
        if self.quality.target_psnr is not None and not self.loss.psnr:
            self.loss.psnr = 1.0  # a target needs a term that moves what it measures
        return self

    def to_yaml(self) -> str:
        """The text of ``config.yaml``; its paths are absolute, so that a run is resumed from any folder."""
        values = self.model_dump(mode="json")
        for section, field, words in (
            ("data", "content", DATA_WORDS),
            ("data", "style", DATA_WORDS),
            ("model", "features", FEATURES_WORDS),
            ("train", "init", MODEL_WORDS),
        ):
            if values[section][field] is not None:
                values[section][field] = absolute_text(values[section][field], words)
        return write_yaml(values)
