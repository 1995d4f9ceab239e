"""GoogleViT: a hidden layer before the head, which the pretrained models of the ViT paper have."""

import inspect
from typing import Any

from minivit.engine import ops, random
from minivit.engine.errors import ConfigError
from minivit.engine.tensor import Tensor
from minivit.models.foreign import ForeignViT
from minivit.nn.layers import Linear


class GoogleViT(ForeignViT):
    """A ForeignViT (same arguments) whose head reads tanh(zW + b), `pre_logits` wide (ViT paper, sec. 3.1).

    Images (B, H, W, C) -> logits, or (B, pre_logits) where num_classes = 0. Raises `ConfigError`.
    """

    __signature__ = inspect.Signature(
        [
            *inspect.signature(ForeignViT).parameters.values(),
            inspect.Parameter("pre_logits", inspect.Parameter.KEYWORD_ONLY, default=768, annotation=int),
        ]
    )

    def __init__(self, *sizes: Any, pre_logits: int = 768, **options: Any):
        super().__init__(*sizes, **options)
        if pre_logits < 1 or self.pool in ("cls_dist", "cls_mean"):
            raise ConfigError(
                f"pre_logits {pre_logits} must be at least 1, and pool {self.pool!r} must give one vector"
            )
        self.config = {**self.config, "pre_logits": pre_logits}
        with random.drawing_from(random.stream(self.config["seed"], "google")):
            self.pre_logits = Linear(self.config["dim"], pre_logits)
            if self.head is not None:
                self.head = Linear(pre_logits, self.config["num_classes"], zero=True)

    def features(self, images: Any) -> Tensor:
        """What the head reads: (B, H, W, C) -> (B, pre_logits)."""
        return ops.tanh(self.pre_logits(super().features(images)))
