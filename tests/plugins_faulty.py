"""Plugins that break their contract in one named way each, or in none: ``fault="none"``."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxella.case import Case, Manifest
from voxella.conditioning import Conditioning
from voxella.detection import Detection, Facts
from voxella.errors import UserError
from voxella.metrics.declared.contract import Evidence
from voxella.metrics.declared.measured import Measured, NoNumberError
from voxella.metrics.declared.number import Number
from voxella.metrics.estimate import Estimate, wilson
from voxella.plugins import hookimpl
from voxella.plugins.contracts import Exported, Released, Report
from voxella.weights import read_state_dict


def mean_pool(text: Tensor, mask: Tensor | None) -> Tensor:
    weights = torch.ones(text.shape[:2]) if mask is None else mask.float()
    return (text * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


class Conditioner(nn.Module):
    """Mean-pools the text into a vector and passes projected tokens on."""

    def __init__(self, text_dim: int, num_classes: int, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.needs: Any = frozenset({"text", "label", "age"})
        if fault == "needs":
            self.needs = ["text", "label"]
        self.context_dim = 8
        self.vector_sizes = {"report": 8 if fault != "vector_sizes" else 9, "class": num_classes}
        self.token = nn.Linear(text_dim, 8)
        self.pool = nn.Linear(text_dim, 8)
        self.age = nn.Linear(2, 8)
        self.head = nn.Linear(8, num_classes)
        if fault == "unused":
            self.spare = nn.Linear(2, 2)
        self.register_buffer(
            "offset", torch.randn(8) if fault == "buffer" else torch.zeros(8), persistent=False
        )
        if fault == "unseeded":
            self.pool.bias.data.copy_(torch.full((8,), random.random()))

    def forward(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None,
        text_mask: Tensor | None,
        label: Tensor | None,
        age: Tensor,
    ) -> Conditioning:
        assert text_features is not None
        assert label is not None
        if self.fault != "dtype":
            text_features = text_features.float()
        if self.fault == "in_place":
            text_features += 1
        pooled = mean_pool(text_features, None if self.fault == "no_mask" else text_mask)
        if self.fault == "batch":
            pooled = pooled - pooled.mean(0, keepdim=True)
        if self.fault == "unread_age":
            age = age * 0 + 1
        if self.fault == "zero_age":
            age = age / age[:, 1:]
        report = self.pool(pooled) + self.age(age) + self.get_buffer("offset")
        if self.fault == "random":
            report = report + torch.randn_like(report)
        if self.fault == "label":
            label = label * 0
        if self.fault == "zero_label":
            label = label / label.sum(1, keepdim=True)
        mask = text_mask
        if mask is None and self.fault == "mask_none":
            report = report + 1
        return Conditioning(
            context=self.token(text_features),
            context_mask=mask,
            vectors={"report": report, "class": label},
            class_logits=self.head(report),
        )


class Backbone(nn.Module):
    """Adds projections of every condition to a 1x1 convolution of the input."""

    def __init__(
        self, dims: int, channels: tuple[int, int], context: int | None,
        vectors: Mapping[str, int], fault: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.fault, self.recompute = fault, False
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.body: nn.Module = convolution(*channels, 1)
        self.time = nn.Linear(1, channels[1])
        self.context = nn.Linear(context, channels[1]) if context else None
        self.vectors = nn.ModuleDict({n: nn.Linear(k, channels[1]) for n, k in vectors.items()})

    def forward(self, x: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        told = self.time(timesteps[:, None].float() / 1000 * (self.fault != "time"))
        if self.context is not None and conditioning.context is not None:
            mask = None if self.fault == "no_mask" else conditioning.context_mask
            told = told + self.context(mean_pool(conditioning.context, mask))
        given = list(conditioning.vectors.items())
        for (name, layer), (_, by_place) in zip(self.vectors.items(), given, strict=True):
            vector = conditioning.vectors[name]
            if self.fault == "places" and by_place.shape == vector.shape:
                vector = by_place
            if self.fault == "places":
                told = told + 0.1 * given[0][1].sum(1, keepdim=True)
            told = told + layer(vector * (self.fault != "vector"))
        if self.fault == "batch":
            told = told - told.mean(0, keepdim=True)
        if self.recompute:
            body: Tensor = checkpoint(self.body, x, use_reentrant=False)
            body = body * (1.1 if self.fault == "checkpoint" else 1)
        else:
            body = self.body(x)
        out: Tensor = body + told.reshape(*told.shape, *[1] * (x.ndim - 2))
        return out.transpose(-1, -2) if self.fault == "axes" else out

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        self.recompute = enabled


class Autoencoder(nn.Module):
    """Strided convolutions by a factor of 2."""

    def __init__(self, dims: int, channels: int, latent: int, fault: str) -> None:
        super().__init__()
        self.fault, self.factor = fault, 2 if fault != "factor" else 4
        self.latent_channels = latent
        down, up = {2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}[dims]
        self.down, self.up = down(channels, 2 * latent, 2, 2), up(latent, channels, 2, 2)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_sigma = self.down(images).chunk(2, 1)
        if self.fault == "draws":
            mean = mean + log_sigma.exp() * torch.randn_like(mean)
        return mean, log_sigma

    def decode(self, latents: Tensor) -> Tensor:
        latents = latents.detach() if self.fault == "detached" else latents
        images: Tensor = self.up(latents)
        if self.fault == "batch":
            images = images / images.std()
        return images.detach() if self.fault == "detached" else images


class Classifier(nn.Module):
    """A linear layer on mean intensities."""

    def __init__(self, channels: int, classes: int, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.head = nn.Linear(channels, 2 if fault == "classes" else classes)

    def forward(self, images: Tensor) -> Tensor:
        pooled = images.flatten(2).mean(2)
        if self.fault == "batch":
            pooled = pooled - pooled.mean(0)
        logits: Tensor = self.head(pooled)
        noise = torch.rand(1) if self.fault == "random" else torch.zeros(1)
        return logits + noise


class TextEncoder:
    """One row of hashed numbers per word."""

    width = 4

    def __init__(self, max_tokens: int, truncation: str, padding: str, fault: str) -> None:
        self.kept, self.end, self.padding, self.fault = max_tokens, truncation, padding, fault
        settings = "" if fault == "fingerprint" else f"{max_tokens} {truncation} {padding}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()

    def token_counts(self, texts: list[str]) -> list[int]:
        counts = [len(text.split()) + 1 for text in texts]
        return [min(c, self.kept) for c in counts] if self.fault == "counts" else counts

    def encode(self, texts: list[str]) -> list[Tensor]:
        longest = max(self.token_counts(texts))
        return [self._one(text, longest) for text in texts]

    def _one(self, text: str, longest: int) -> Tensor:
        words = [*text.split(), "</s>"]
        right = self.end == "right" or self.fault == "end"
        words = words[: self.kept] if right else words[-self.kept :]
        if self.padding == "max" and self.fault != "padding":
            words += ["<pad>"] * (self.kept - len(words))
        if self.fault == "lengths":
            words += ["<pad>"] * (min(longest, self.kept) - len(words))
        rows = [list(hashlib.sha256(word.encode()).digest()[: self.width]) for word in words]
        return torch.tensor(rows, dtype=torch.float32, requires_grad=self.fault == "graph")


class Importer:
    """One case with a small image and a report."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __call__(self, out: Path) -> Manifest:
        out.mkdir(parents=True)
        text = "The peripheral zone shows a lesion on the left side. PI-RADS 4."
        (out / "a.txt").write_text(text)
        voxels = np.random.default_rng(None if self.fault == "random" else 0).random((3, 4, 5))
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), out / "a.nii.gz")
        digest = hashlib.sha256(b"" if self.fault == "hash" else text.encode()).hexdigest()
        image = "b.nii.gz" if self.fault == "image" else "a.nii.gz"
        case = Case(
            id="a", group="a", images={"t2w": image}, texts={"report": "a.txt"},
            texts_sha256={"report": digest},
        )  # fmt: skip
        if self.fault == "leak":
            # Past the case's own rule, as a manifest that a plugin writes by itself.
            case = case.model_copy(update={"extra": {"note": text}})
        manifest = Manifest(out, [case])
        manifest.write()
        return Manifest(out, []) if self.fault == "empty" else manifest


class Exporter:
    """Writes a list of ids."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __call__(self, dataset: Manifest, out: Path) -> Exported:
        out.mkdir(parents=True)
        name = f"ids-{random.random()}.txt" if self.fault == "names" else "ids.txt"
        text = " ".join(case.id for case in dataset)
        if self.fault == "leak":
            text += dataset.read_report(dataset.cases[0])
        if self.fault == "dataset":
            (dataset.folder / "mine.txt").write_text("")
        (out / name).write_text(text)
        remark = dataset.read_report(dataset.cases[0]) if self.fault == "remark" else "three ids"
        return Exported([] if self.fault == "nothing" else [out / name], [remark])


class ModelExporter:
    """Writes the number of a model's steps, of volumes alone."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __call__(self, model: Path, out: Path) -> Exported:
        if self.fault == "refuses" or not (model.parent.name.startswith("volume")):
            raise UserError("no such network")
        path = out / "steps.pt"
        out.mkdir(parents=True)
        content: dict[str, Any] = {"steps": 1}
        if self.fault == "random":
            content["steps"] = random.random()
        if self.fault == "code":
            content["path"] = path
        torch.save(content, path)
        if self.fault == "model":
            (model / "README.md").write_text("mine")
        return Exported([] if self.fault == "nothing" else [path])


class Summariser:
    """Takes the first words."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.fingerprint = "" if fault == "fingerprint" else "faulty 1"
        self.words = 5

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        most = 9 if self.fault == "long" else self.words
        found = [" ".join(report.text.split()[:most]) for report in reports]
        if self.fault == "batch" and len(reports) > 1:
            found = [found[0]] * len(found)
        if self.fault == "random":
            found = [f"{random.random()}" for _ in found]
        return found[:1] if self.fault == "count" else found


class Source:
    """Reads a denoiser that has our names."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.parts = frozenset({"engine" if fault == "parts" else "backbone"})
        self.licence = "" if fault == "licence" else "Research only."

    def read(self, path: Path) -> Released:
        if not path.exists() and self.fault == "missing":
            raise FileNotFoundError(path)
        if self.fault == "code" and path.suffix == ".pt":
            torch.load(path, weights_only=False)
        try:
            state = read_state_dict(path, what="a denoiser", remedy="name a file")
        except UserError as error:
            if self.fault == "damaged":
                raise RuntimeError("pickle") from error
            raise
        if self.fault == "rewrites":
            path.write_bytes(b"mine")
        if self.fault == "random":
            state = {name: torch.randn(tensor.shape) for name, tensor in state.items()}
        if self.fault == "device":
            state = {name: tensor.to("meta") for name, tensor in state.items()}
        return Released({"conditioner" if self.fault == "undeclared" else "backbone": state})


class Probe:
    """Finds what is bright."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.fingerprint = "" if fault == "fingerprint" else "faulty 1"
        self.spatial_dims = (2, 3)
        self.copied = False

    def told(self, dataset: Manifest, case: Case) -> Facts | None:
        del dataset, case
        return Facts(True) if self.fault == "told" else None

    def look(self, image: NDArray[np.floating], spacing_mm: tuple[float, ...]) -> Detection:
        mean = float(image.mean()) + (random.random() if self.fault == "random" else 0.0)
        if self.fault == "travels" and self.copied:
            mean += 1.0
        value = float("nan") if self.fault == "json" else mean
        return Detection(Facts(mean > 0.5), details={"mean": value, "edge": spacing_mm[0]})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, copied=True)


class Metric:
    """Mean brightness of real images."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        bounded = Number("brightness", "Brightness", "brightness", "", bounded=True)
        self.numbers = (bounded, bounded) if fault == "twice" else (bounded,)
        if fault == "declares":
            self.numbers = (replace(bounded, label=f"Brightness {random.random()}"),)
        self.needs = frozenset({"images", "reports"})
        if fault == "network":
            self.needs = frozenset({"features"})
        if fault == "needs":
            self.needs = frozenset({"reports"})

    def measure(self, evidence: Evidence) -> dict[str, Measured]:
        if self.fault == "network":
            vectors = evidence.features()
            assert vectors is not None
            return {"brightness": Measured(wilson(1, len(vectors.real)), evidence.split)}
        if len(evidence.real) < 2:
            if self.fault == "few":
                raise ZeroDivisionError
            raise NoNumberError("one case has no spread")
        value = sum(float(evidence.image(case).mean()) for case in evidence.real)
        value = value / (1 if self.fault == "bounded" else len(evidence.real))
        if self.fault == "random":
            value = random.random()
        note = evidence.report(evidence.real[0]) if self.fault == "leak" else None
        key = "darkness" if self.fault == "undeclared" else "brightness"
        return {key: Measured(Estimate(value, None, None, len(evidence.real), note=note), "test")}


class Observer:
    """Keeps the last loss."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    @hookimpl
    def voxella_step_end(self, step: int) -> None:
        if self.fault == "random":
            torch.rand(1)

    @hookimpl
    def voxella_run_end(self, status: str) -> None:
        if self.fault == "failure" and status != "finished":
            raise RuntimeError("only success was thought of")

    @hookimpl
    def voxella_run_start(self, first_step: int) -> None:
        if self.fault == "resume" and first_step:
            raise RuntimeError("only fresh runs were thought of")


class Hookless:
    """Looks like an observer, but marks nothing."""

    def voxella_step_end(self, step: int) -> None:
        del step


def conditioner(*, text_dim: int, num_classes: int, fault: str) -> nn.Module:
    return Conditioner(text_dim, num_classes, fault)


def backbone(
    *, spatial_dims: int, in_channels: int, out_channels: int, context_dim: int | None,
    vectors: dict[str, int], fault: str,
) -> nn.Module:  # fmt: skip
    return Backbone(spatial_dims, (in_channels, out_channels), context_dim, vectors, fault)


def autoencoder(
    *, spatial_dims: int, in_channels: int, latent_channels: int, fault: str
) -> nn.Module:
    return Autoencoder(spatial_dims, in_channels, latent_channels, fault)


def classifier(*, spatial_dims: int, in_channels: int, num_classes: int, fault: str) -> nn.Module:
    return Classifier(in_channels, num_classes, fault)


def text_encoder(*, max_tokens: int, truncation: str, padding: str, fault: str) -> TextEncoder:
    return TextEncoder(max_tokens, truncation, padding, fault)


def importer(*, fault: str) -> Importer:
    return Importer(fault)


def exporter(*, fault: str) -> Exporter:
    return Exporter(fault)


def source(*, fault: str) -> Source:
    return Source(fault)


def model_exporter(*, fault: str) -> ModelExporter:
    return ModelExporter(fault)


def probe(*, fault: str) -> Probe:
    return Probe(fault)


def metric(*, fault: str) -> Metric:
    return Metric(fault)


def summariser(*, fault: str) -> Summariser:
    return Summariser(fault)


def observer(*, fault: str) -> object:
    return Hookless() if fault == "hooks" else Observer(fault)


def bare(fault, *, spatial_dims: int = 3) -> nn.Module:  # type: ignore[no-untyped-def] # the fault
    return nn.Linear(spatial_dims, len(fault))


BUILDERS: dict[str, Callable[..., Any]] = {
    "conditioners": conditioner,
    "backbones": backbone,
    "autoencoders": autoencoder,
    "classifiers": classifier,
    "text_encoders": text_encoder,
    "importers": importer,
    "exporters": exporter,
    "model_exporters": model_exporter,
    "summarisers": summariser,
    "sources": source,
    "probes": probe,
    "metrics": metric,
    "observers": observer,
}
