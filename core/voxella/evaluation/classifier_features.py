"""What a classifier of real images makes of a case: the features before its prediction, and that.

A case reaches it as in its training: all sequences, with the spacing of their headers, cropped,
scaled and in half precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxella.classification.store import as_input
from voxella.classification.task import ClassifierTask
from voxella.errors import UserError
from voxella.evaluation.classifier import FrozenClassifier
from voxella.evaluation.sets import Subject
from voxella.evaluation.volumes import Images
from voxella.hashing import sha256_json
from voxella.metrics.features.network import Plane
from voxella.recipe.classification import Classify

__all__ = [
    "ClassifierFeatures",
    "ClassifierPredictions",
    "classifier_features",
    "classifier_predictions",
]


@dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """A network of volumes: what the last linear layer of a trained classifier is given.

    Attributes:
        name: ``classifier-NAME``, of the training.
        fingerprint: Hash of weights and of how images reach them.
        dim: Width of that layer's input.
        weights_sha256: Of the file of weights.
        task: The classifier, in evaluation mode.
        head: Its last linear layer.
        settings: How images reach it.
        apart: Cases that it has not learnt from, as ``(case, patient)``.
        device: Where it is.
        colours: Channels whose values stay.
    """

    name: str
    fingerprint: str
    dim: int
    weights_sha256: str
    task: ClassifierTask
    head: nn.Linear
    settings: Classify
    apart: frozenset[tuple[str, str]]
    device: torch.device | str
    colours: frozenset[int] = frozenset()
    comparable_with_paper: bool = False
    plane: Plane | None = None

    def features(self, images: Images) -> Tensor:
        """Return ``(1, dim)`` float32 on the CPU.

        Raises:
            UserError: There is no body to crop to, or a sequence is constant.
        """
        return self.of_input(_as_trained(images, self.settings, self.colours))

    def of_input(self, image: Tensor) -> Tensor:
        """Return ``(1, dim)`` of a ready input ``(C, *size)``.

        Raises:
            UserError: The last linear layer is not given one vector for an image.
        """
        given: list[Tensor] = []

        def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            given.append(arguments[0])

        hook = self.head.register_forward_pre_hook(keep)
        try:
            _logits(self.task, image, self.device)
        finally:
            hook.remove()
        if [tuple(rows.shape) for rows in given] != [(1, self.dim)]:
            raise UserError(
                f"evaluate.classifier: the last linear layer of {self.name} is not given one "
                f"vector for an image ({[tuple(rows.shape) for rows in given]}): no features",
                expected="a network that ends in one linear layer over pooled features",
                remedy="--set evaluate.medicalnet=PATH, whose features are then taken",
            )
        return given[0].float().cpu()

    def remark(self, real: Iterable[Subject]) -> str | None:
        """Say that the features were fitted to some of these real cases, where they were."""
        cases = [(subject.id, subject.group) for subject in real]
        learnt = sum(case not in self.apart for case in cases)
        if not learnt:
            return None
        return (
            f"{learnt} of these {len(cases)} real cases are not among those that the features' "
            "classifier kept apart: it may have learnt from them"
        )


@dataclass(frozen=True, eq=False)
class ClassifierPredictions:
    """How likely a case is of each class, mean over a classifier's trainings.

    Attributes:
        kept: The classifier.
        tasks: Its trainings, in evaluation mode.
        device: Where they are.
    """

    kept: FrozenClassifier
    tasks: Sequence[ClassifierTask]
    device: torch.device | str

    @property
    def name(self) -> str:
        """Return the folder of the predictions."""
        return f"{self.kept.name}-answers"

    def identity(self) -> dict[str, list[str]]:
        """Return what identifies the classifier, and what it has not learnt from."""
        apart = {split: sorted(cases) for split, cases in self.kept.apart.items()}
        return {"classifier": [self.fingerprint, sha256_json(apart)]}

    @property
    def fingerprint(self) -> str:
        """Return a hash of all weights and of how images reach them."""
        return self.kept.fingerprint(len(self.tasks))

    def features(self, images: Images) -> Tensor:
        """Return the probabilities ``(1, K)``; of two classes that of the last alone, ``(1, 1)``.

        Raises:
            UserError: There is no body to crop to, or a sequence is constant.
        """
        image = _as_trained(images, self.kept.settings, self.kept.recipe.colour_channels)
        found = [_logits(task, image, self.device).double().softmax(dim=1) for task in self.tasks]
        likely = torch.stack(found).mean(dim=0)
        return (likely[:, -1:] if likely.shape[1] == 2 else likely).float().cpu()


def classifier_features(kept: FrozenClassifier, device: torch.device | str) -> ClassifierFeatures:
    """Return the features of a classifier's first training.

    Raises:
        UserError: It does not end in a linear layer over one vector for an image.
    """
    seed = kept.seeds[0]
    task = kept.load(seed, device)
    classes = len(kept.recipe.data.classes)
    linear = [one for one in task.modules() if isinstance(one, nn.Linear)]
    heads = [one for one in linear if one.out_features == classes]
    if not heads:
        raise UserError(
            f"evaluate.classifier: {kept.settings.classifier.name} has no linear layer with "
            f"{classes} outputs, whose input would be its features",
            remedy="--set evaluate.medicalnet=PATH, whose features are then taken",
        )
    found = ClassifierFeatures(
        name=kept.name,
        fingerprint=kept.fingerprint(1),
        dim=heads[-1].in_features,
        weights_sha256=kept.weights_sha256[0],
        task=task,
        head=heads[-1],
        settings=kept.settings,
        apart=frozenset().union(*kept.apart.values()),
        device=device,
        colours=kept.recipe.colour_channels,
    )
    # Told now rather than at the first volume.
    found.of_input(torch.zeros(kept.recipe.image_channels, *kept.settings.size))
    return found


def classifier_predictions(
    kept: FrozenClassifier, device: torch.device | str
) -> ClassifierPredictions:
    """Return the predictions of all trainings of a classifier."""
    return ClassifierPredictions(kept, [kept.load(seed, device) for seed in kept.seeds], device)


@torch.no_grad()
def _logits(task: ClassifierTask, image: Tensor, device: torch.device | str) -> Tensor:
    # TF32 would make a GPU's features differ from a CPU's in the third digit.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found: Tensor = task.classifier(image[None].to(device))
    return found.float()


def _as_trained(images: Images, settings: Classify, colours: frozenset[int]) -> Tensor:
    axes = len(settings.size)
    voxels = images.voxels if axes == 3 else images.voxels[..., 0]
    ready, _ = as_input(voxels, images.spacing_mm[:axes], settings, colours)
    # Training reads its inputs in half precision.
    return ready.half().float()
