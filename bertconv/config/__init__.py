"""Configs of models: what a config.json says, checked, with what every family has where it says nothing."""

from bertconv.config.classes import (
    AlbertConfig,
    BertConfig,
    CamembertConfig,
    Config,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    RobertaConfig,
    RobertaPreLayerNormConfig,
    XLMRobertaConfig,
)

__all__ = [
    "AlbertConfig", "BertConfig", "CamembertConfig", "Config", "DistilBertConfig", "ElectraConfig", "MPNetConfig",
    "RobertaConfig", "RobertaPreLayerNormConfig", "XLMRobertaConfig",
]  # fmt: skip
