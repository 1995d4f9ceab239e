"""The findings of the literature, each as a study that anyone can run: `minivit study NAME`.

Reading order: report.py (what a study is asked, and what it answers), subjects.py (the models and images it looks at), then
any study. A study is a file with two functions, `run(config) -> Result` and `plot(result) -> (figure, alt text)`; its
measures are public functions on arrays. The table below lists them by the name of the command.
"""

import dataclasses
import importlib
import time
from types import ModuleType

from minivit.engine.errors import ConfigError, did_you_mean
from minivit.studies.report import Config, Result
from minivit.studies.subjects import earlier_training

STUDIES: dict[str, str] = {  # name of the command -> the question it asks; the file has underscores for hyphens
    "locality": "what is built into a convolution that a ViT must learn?",
    "attention-distance": "how far does each head look, layer by layer?",
    "cka": "do a ViT's layers resemble each other more than a ResNet's?",
    "positions": "what do position embeddings learn, and are they needed?",
    "rollout": "does rollout tell better than raw attention which patches matter?",
    "faithfulness": "is attention the reason? Remove the patches that it names",
    "occlusion": "who still answers with most patches missing?",
    "shuffle": "who still answers when the parts have changed places?",
    "corruptions": "who withstands noise, blur, weather, …, and which of them?",
    "fourier": "which frequencies disturb whom?",
    "dct": "in which frequencies does the least fooling change lie?",
    "adversarial": "who withstands changes made against it?",
    "mixer-fnet": "is attention needed?",
}

__all__ = ["STUDIES", "Config", "Result", "perform", "study"]


def study(name: str) -> ModuleType:
    """The module of a study, with `run` and `plot`. Raises `ConfigError` for an unknown name."""
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}{did_you_mean(name, STUDIES)}; studies are {', '.join(STUDIES)}")
    return importlib.import_module(f"minivit.studies.{name.replace('-', '_')}")


def perform(config: Config) -> Result:
    """Run the study that a Config names and note how long it took, where, and how it was called.

    The seconds include those that reused models once took to train, so that a second call does not look cheaper.
    """
    from minivit.training.report import machine

    run = study(config.study).run
    begun = time.monotonic()
    with earlier_training() as earlier:
        result = run(config)
    seconds = time.monotonic() - begun + sum(earlier)
    return dataclasses.replace(result, seconds=round(seconds, 1), machine=machine(), command=config.command)
