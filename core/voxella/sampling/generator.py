"""``voxella.Generator``: volumes from a trained model, in a script or a notebook."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan, check_weights_exist, choose_device
from voxella.case import Case, ConditionValue
from voxella.case_fields import spacing_of
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.ldm.conditions import refuse_other
from voxella.ldm.generate import GenerationSettings
from voxella.ldm.model_folder.facts import ModelFacts, is_model, load_facts
from voxella.ldm.request import request_for
from voxella.limits import SAMPLES
from voxella.provenance import versions
from voxella.ranks import Ranks
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.sampling.given import read_given
from voxella.sampling.model_folder import folders_of_model, refuse_without_autoencoder
from voxella.sampling.networks import GeneratedImage, Networks, other_text
from voxella.sampling.prompt_values import PromptRules, asked_case
from voxella.sampling.prompts import TextPrompts
from voxella.sampling.space import around_the_origin
from voxella.sampling.synthetic_image import SyntheticImage
from voxella.sampling.told import origin_of, told_of

__all__ = ["Generator"]

_KEPT_TEXTS = 64
_OnStep = Callable[[int, int], None]
_SAMPLING = ("sampler", "steps", "guidance", "guidance_null", "guidance_interval")


class Generator:
    """A trained model that makes images; the command line's sample stage uses the same code.

    Made by :meth:`open`. The networks are loaded when the first image is asked for, after its
    report has been encoded: a text encoder may need all the memory that they will have.

    Attributes:
        recipe: The model's, with the settings given to :meth:`open`.
        facts: What the model says of itself: classes, conditions, spacings.
    """

    def __init__(self, model: Path, settings: Sequence[str], device: torch.device) -> None:
        self.recipe: Recipe = load_recipe(model / "recipe.yaml", (), settings)
        self.facts: ModelFacts = load_facts(model)
        self._model = model
        self._settings = tuple(settings)
        self._folders = folders_of_model(model)
        self._autoencoder = self._folders.autoencoder
        self._device = device
        self._texts: dict[str, Tensor | None] = {}

    @classmethod
    def open(
        cls,
        model_or_run: Path | str,
        *,
        autoencoder: Path | str | None = None,
        device: str = "auto",
        settings: Sequence[str] = (),
    ) -> Generator:
        """Open a run folder, or an exported model folder (``RUN/model``).

        Args:
            model_or_run: The folder.
            autoencoder: Folder of the one trained in place; None: the model's own, or the run's.
            device: ``auto``: this process's GPU, or the CPU; or as torch names it.
            settings: ``KEY=VALUE`` over the model's recipe, such as
                ``text.encoder.path=/where/it/is/here``.

        Raises:
            UserError: There is no whole model, no autoencoder, or a setting is not allowed.
        """
        given = Path(model_or_run).absolute()
        model = given if is_model(given) else given / "model"
        if not is_model(model):
            load_facts(given)  # which says what is missing
        found = cls(model, settings, choose_device(device))
        if autoencoder is not None:
            found._autoencoder = Path(autoencoder).absolute()
        else:
            refuse_without_autoencoder(found.recipe.autoencoder_training, found._folders)
        training = found.recipe.autoencoder_training is not None
        check_weights_exist(found.recipe.autoencoder, training=training, trained=found._autoencoder)
        refuse_other(found.recipe.conditions, found.facts.conditions)
        return found

    def generate(
        self,
        *,
        report: str | None = None,
        label: str | None = None,
        conditions: Mapping[str, ConditionValue] | None = None,
        spacing_mm: Sequence[float] | None = None,
        given: Mapping[str, Path | str] | None = None,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        count: int = 1,
        name: str = "generated",
        on_step: _OnStep | None = None,
    ) -> list[SyntheticImage]:
        """Make images of one prompt; the same arguments give the same images.

        Args:
            report: Text; None: a case without a report. It is written nowhere.
            label: One of the model's classes; None: not known.
            conditions: By name, as the recipe declares them; what is absent is not known.
            spacing_mm: Edges of a voxel along the axes; None: the middle of what was trained on.
            given: Image files by sequence: kept, and the others are generated to go with them.
            seed: None: the recipe's.
            steps: Of the sampler; None: the recipe's.
            guidance: Scale, 1 is off; None: the recipe's.
            sampler: Its name; None: the recipe's.
            count: How many, each of its own noise.
            name: Names them ``NAME-s000`` and so on; with the seed it decides their noise.
            on_step: Called with (steps done, steps in all); what it raises ends the work.

        Raises:
            UserError: A value is not allowed, or the text encoder is not the model's.
        """
        recipe = self._recipe_with(seed=seed, steps=steps, guidance=guidance, sampler=sampler)
        files = {n: str(Path(path).absolute()) for n, path in (given or {}).items()}
        rules, split = PromptRules.of(recipe, self.facts), recipe.sample.splits[0]
        case = asked_case(rules, split, name, report, label, conditions, spacing_mm, files)
        if count < 1:
            raise UserError(f"count: received {count}", expected="1 and more")
        SAMPLES.require(count, "count asks for")
        features = self._features(report or "")
        names = [f"{name}-s{number:03d}" for number in range(count)]
        size, settings = recipe.sample.batch_size, GenerationSettings.of(recipe)
        classes, blocks = recipe.data.classes, recipe.conditions
        told = {"seed": recipe.seed, **recipe.sample.model_dump(mode="json", include={*_SAMPLING})}
        told |= origin_of(recipe.sample, recipe.prepare, recipe.data.sequences)
        own = read_given(files, rules.given) if files else None
        held = own.held(AutoencoderPlan.of(recipe), self.networks) if own else None
        made: list[SyntheticImage] = []
        for start in range(0, count, size):
            part = names[start : start + size]
            free = [request_for(classes, blocks, case, features, one) for one in part]
            requests = [replace(request, held=held) for request in free]
            told_step = _over_all(on_step, start // size, -(-count // size))
            images = dict(self.networks.images(settings, requests, on_step=told_step))
            whole = {n: own.in_place(image) if own else image for n, image in images.items()}
            made += [self._image(told, case, one, whole[n]) for n, one in enumerate(part)]
        return made

    def text_head(
        self,
        *,
        report: str | None = None,
        label: str | None = None,
        conditions: Mapping[str, ConditionValue] | None = None,
    ) -> dict[str, float] | None:
        """Return what the text head says of a prompt at the last network call; None without one.

        Raises:
            UserError: As :meth:`generate`.
        """
        recipe, rules = self.recipe, PromptRules.of(self.recipe, self.facts)
        case = asked_case(rules, recipe.sample.splits[0], "prompt", report, label, conditions)
        features = self._features(report or "")
        request = request_for(recipe.data.classes, recipe.conditions, case, features, "prompt")
        said = self.networks.text_head(GenerationSettings.of(recipe), request)
        return None if said is None else dict(zip(recipe.data.classes, said.tolist(), strict=True))

    @cached_property
    def networks(self) -> Networks:
        """Return the networks; the first time, they are loaded."""
        return Networks.load(
            AutoencoderPlan.of(self.recipe),
            self.recipe.sample,
            self._model,
            self._autoencoder,
            self._device,
            alone=True,
            quiet=True,
        )

    def _recipe_with(self, *, seed: int | None, **sample: Any) -> Recipe:  # noqa: ANN401 - a value
        """Return the recipe with other settings, held to all that a recipe is held to."""
        changes = {"seed": seed, **{f"sample.{key}": value for key, value in sample.items()}}
        words = [f"{key}={json.dumps(v)}" for key, v in changes.items() if v is not None]
        if not words:
            return self.recipe
        return load_recipe(self._model / "recipe.yaml", (), [*self._settings, *words])

    def _features(self, report: str) -> Tensor | None:
        """Return the features of a report, rounded as the model's were; known ones are kept."""
        text = self.recipe.text
        if text is None:
            if report:
                raise UserError("generate: report: this model reads no reports")
            return None
        key = sha256_json(report)
        if key not in self._texts:
            with tempfile.TemporaryDirectory() as own:
                alone = replace(Ranks.from_environment(), rank=0, world=1)
                prompts = TextPrompts(
                    text, {"prompt": report}, self._folders.text, Path(own), alone
                )
                found = prompts.features(Case(id="prompt", group="prompt", images={}))
                if (problem := other_text(self.facts, prompts.fingerprint)) is not None:
                    raise UserError(problem, remedy="settings=['text.encoder.path=...']")
                if len(self._texts) >= _KEPT_TEXTS:
                    del self._texts[next(iter(self._texts))]
                # A view of a file that is about to go.
                self._texts[key] = None if found is None else found.clone()
        return self._texts[key]

    def _image(
        self, told: dict[str, Any], case: Case, name: str, made: GeneratedImage
    ) -> SyntheticImage:
        spacing, recipe = spacing_of(case.extra), self.recipe
        provenance = {
            "synthetic": True,
            "model": self.facts.weights_sha256,
            "autoencoder": self.facts.autoencoder_fingerprint,
            **told,
            "label": case.label,
            "conditions": dict(case.conditions),
            "spacing_mm": None if spacing is None else list(spacing),
            # Not its hash: whoever has the reports could find out which it was.
            "has_report": bool(case.texts_sha256),
            **told_of(case, recipe.data.classes, made),
            "versions": versions(),
        }
        affine = around_the_origin(made.array.shape[1:], spacing or (1.0,) * (made.array.ndim - 1))
        return SyntheticImage(name, made.array, affine, recipe.channels, spacing, provenance)


def _over_all(on_step: _OnStep | None, batch: int, batches: int) -> _OnStep | None:
    """Return what counts a batch's steps on from those of the batches before it."""
    return on_step and (lambda done, steps: on_step(batch * steps + done, batches * steps))
