"""Settings of the model behind one cell of a published table, in the paper's terms."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel, parse_radius

Method = Literal["at", "trades", "flying-bird", "flying-bird-plus", "bcs", "rst", "hydra", "atmc", "ours", "ours-fast"]


class Settings(BaseModel):
    """Everything a paper says about how one model was trained; equal settings mean the same model.

    Attributes
    ----------
    method : str
        Training or pruning method; "ours" prunes randomly drawn weights, "ours-fast" does so with single-step adversarial training.
    architecture : str
        Architecture in the paper's terms, such as "rn34" or "small-rn34-p0.1"; a scale maps it to one of `model_zoo.architectures`.
    weights : str
        "fp" (32 bits) or "binary".
    dataset : str
        Training data: "cifar10", "cifar100" or "imagenet100".
    radius : str
        Linf radius of adversarial training as an exact fraction, "0" for training on clean images.
    strategy : str
        How the kept weights are spread over layers: "none" (not pruned), "adaptive" (allocation power `p`), "global" or "dynamic".
    keep_ratio : float, optional
        Fraction of the weights that is kept, in (0, 1); None if the model is not pruned.
    p : float, optional
        Allocation power, in [0, 1]: layer keep ratio proportional to n ** (p - 1).
    init : str
        Initial weights: "binary", or "signed-constant" with the scores of Ramanujan et al. (2020). Only for methods that draw weights.
    last_bn : bool
        Whether a batch norm follows the last linear layer.
    score_scale : float, optional
        Scale a of the uniform initial scores; None for methods without scores and for the initialisation of `init`.
    seed : int
        Seed of the training run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    method: Method
    architecture: str
    weights: Literal["fp", "binary"]
    dataset: Literal["cifar10", "cifar100", "imagenet100"]
    radius: str
    strategy: Literal["none", "adaptive", "global", "dynamic"] = "none"
    keep_ratio: float | None = Field(default=None, gt=0, lt=1)
    p: float | None = Field(default=None, ge=0, le=1)
    init: Literal["binary", "signed-constant"] = "binary"
    last_bn: bool = False
    score_scale: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.radius != "0":
            try:
                ThreatModel("Linf", parse_radius(self.radius))
            except UsageError as error:
                raise ValueError(str(error)) from None
        if (self.strategy == "none") != (self.keep_ratio is None):
            raise ValueError("a pruned model needs a keep ratio, and only a pruned model may have one")
        if (self.strategy == "adaptive") != (self.p is not None):
            raise ValueError("strategy 'adaptive', and no other, needs an allocation power")
        return self

    @property
    def slug(self) -> str:
        """Short name for ids: lower-case letters, digits, dots and hyphens; different settings have different slugs."""
        parts = [self.dataset, self.architecture, self.method]
        if self.weights == "binary":
            parts.append("binary")
        if self.keep_ratio is not None:
            parts.append(f"k{self.keep_ratio:g}")
        parts.append({"adaptive": f"p{self.p:g}" if self.p is not None else "", "global": "global"}.get(self.strategy, ""))
        parts.append("signed-constant" if self.init == "signed-constant" else "")
        parts.append("lbn" if self.last_bn else "")
        parts.append(f"a{self.score_scale:g}" if self.score_scale is not None else "")
        parts.append("clean" if self.radius == "0" else f"r{self.radius.replace('/', '-')}")
        parts.append(f"s{self.seed}" if self.seed else "")
        return "-".join(part for part in parts if part)
