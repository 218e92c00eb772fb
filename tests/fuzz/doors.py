"""Where input comes in: for each door sound files, ways to spoil them, and the call."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from dicom_writer import image
from image_damage import make_bases
from openpyxl import Workbook
from pydicom import dcmread
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from fuzz.mutate import Random, spoilt, spoilt_archive, spoilt_bytes, spoilt_image
from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_volume
from voxella.ldm.export import ModelFacts, load_facts
from voxella.plugins.registry import builder
from voxella.recipe.load import load_recipe
from voxella.sampling.prompt_files import prompt_cases
from voxella.sampling.prompt_values import PromptRules
from voxella.study.load import load_studies
from voxella.study.plan import make_plan
from voxella.study.recipes import Layers
from voxella.weights import read_state_dict

__all__ = ["DOORS", "Door"]

RECIPES = Path(__file__).parents[2] / "recipes"
Spoil = Callable[[bytes, Random], tuple[bytes, str]]


@dataclass(frozen=True)
class Door:
    """One way in.

    Attributes:
        make: Writes sound files into a folder; returns those that may be spoilt.
        call: Given the folder: what a user does with them. Returns an exit code, or raises.
        spoil: By suffix; every other file is spoilt as text.
    """

    make: Callable[[Path], list[Path]]
    call: Callable[[Path], int]

    def spoil(self, path: Path, random: Random) -> str:
        """Spoil one file in place; return how."""
        how = _BY_SUFFIX.get(path.suffix, spoilt)
        data, kind = how(path.read_bytes(), random)
        path.write_bytes(data)
        return kind


def _spoilt_dicom(data: bytes, random: Random) -> tuple[bytes, str]:
    if random.random() < 0.4:
        return spoilt_bytes(data, random)
    dataset = dcmread(io.BytesIO(data))
    keyword = str(random.choice(_DICOM_FIELDS))
    value = _DICOM_VALUES[int(random.integers(len(_DICOM_VALUES)))]
    out = io.BytesIO()
    try:
        setattr(dataset, keyword, value)
        dataset.save_as(out)
    except Exception:  # pydicom writes no such value: the bytes, then
        return spoilt_bytes(data, random)
    return out.getvalue(), f"field {type(value).__name__}"


_DICOM_FIELDS = (
    *("Rows", "Columns", "BitsAllocated", "NumberOfFrames", "SamplesPerPixel", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"),
    *("StudyDate", "SeriesDescription", "DiffusionBValue", "SpecificCharacterSet", "Modality"),
)
_DICOM_VALUES: tuple[object, ...] = (
    *(0, 1, 65535, 2**31 - 1, -1, "", "x", "1e308", "nan", "99999999999", [], [0, 0]),
    *(["nan"] * 3, [1e30] * 3, [0.0] * 6, ["x"] * 6, "9" * 64, "a\\b\\c", None, b"\xff\xfe"),
    *("\u00fc", "../../x"),
)
_BY_SUFFIX: dict[str, Spoil] = {
    ".xlsx": spoilt_archive,
    ".pt": spoilt_archive,
    ".bin": spoilt_archive,
    ".safetensors": spoilt_bytes,
    ".dcm": _spoilt_dicom,
    **dict.fromkeys((".nii", ".gz", ".mha", ".mhd", ".nrrd", ".nhdr"), spoilt_image),
    **dict.fromkeys((".raw", ".zraw"), spoilt_bytes),
}


_HELD_OUT = ("val_share=0", "test_share=0")
_ALL_TRAIN = ("--set", _HELD_OUT[0], "--set", _HELD_OUT[1])


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


_RECIPE = """extends: {recipes}/ccella.yaml
name: tried
seed: 3
description: "a text"
data: {{sequences: [t2w], classes: [low, high]}}
prepare:
  size: [64, 64, 32]
  crop_mm: [96.0, 96.0, null]
latent: {{size: [16, 16, 8]}}
optimizer: {{lr: 1e-4, betas: [0.9, 0.99]}}
train: {{epochs: null, steps: 10}}
sample: {{sampler: ddpm, steps: 1000, per_case: 2, split: [train, val]}}
evaluate: {{bootstrap: 100, level: 0.9}}
"""
_PROFILE = """when:
  - if: {seed: 3}
    set: {train: {steps: 20}}
deepspeed: {train_batch_size: 4, zero_optimization: {stage: 1}}
"""
_STUDY = """name: tried
description: "a table"
recipes: [{recipes}/base.yaml, {recipes}/ccella.yaml]
columns: [fid_3d, auc]
claims:
  - text: "one is better"
    metric: fid_3d
    left: ccella
    side: below
    right: [base]
"""


def _recipe(folder: Path) -> list[Path]:
    return [
        _write(folder / "recipe.yaml", _RECIPE.format(recipes=RECIPES)),
        _write(folder / "over.yaml", _PROFILE),
    ]


def _validate(folder: Path) -> int:
    return main(["recipe", "validate", f"{folder}/recipe.yaml", "--profile", f"{folder}/over.yaml"])


def _override(folder: Path) -> int:
    return main(["recipe", "validate", str(RECIPES / "ccella.yaml"), *_options(folder)])


def _options(folder: Path) -> list[str]:
    words = (folder / "set.txt").read_text("utf-8", "surrogateescape").replace("\0", "")
    return [word for setting in words.split("\n") for word in ("--set", setting) if setting]


def _study(folder: Path) -> list[Path]:
    return [_write(folder / "study.yaml", _STUDY.format(recipes=RECIPES))]


def _plan_study(folder: Path) -> int:
    """Take the part of ``voxella study --dry-run`` before anything is estimated."""
    make_plan(load_studies(folder / "study.yaml"), folder / "out", Layers((), (), None, None))
    return 0


def _dataset(folder: Path) -> list[Path]:
    for name in ("a", "b"):
        voxels = np.random.default_rng(0).integers(0, 900, (8, 8, 4)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 4.0, 1])), folder / f"{name}.nii.gz")
        _write(folder / f"{name}.txt", "A lesion in the left peripheral zone.\n")
    cases = [
        Case(
            id=name,
            group=f"p{name}",
            images={"t2w": f"{name}.nii.gz"},
            texts={"report": f"{name}.txt"},
            label="negative",
            label_source="table",
            extra={"age": 61, "site": "one"},
        )
        for name in ("a", "b")
    ]
    return [Manifest(folder, cases).write(), folder / "a.txt"]


def _check(folder: Path) -> int:
    code = main(["check", str(folder), "--workers", "1"])
    try:
        Manifest.read(folder)
    except UserError:
        assert code == 2, "what a stage refuses the check finds right"
    return code


def _export(folder: Path) -> int:
    out = folder / "out"
    return main(["export", "ccella", str(folder), "--out", str(out), "--with-text"])


def _prompts(folder: Path) -> list[Path]:
    lines = [
        {"id": "one", "report": "A lesion.", "label": "positive", "spacing_mm": [0.5, 0.5, 0.75]},
        {"id": "two", "report": "None."},
    ]
    return [_write(folder / "prompts.jsonl", "".join(json.dumps(line) + "\n" for line in lines))]


def _read_prompts(folder: Path) -> int:
    recipe = load_recipe(
        RECIPES / "ccella.yaml", ["smoke"], [f"sample.prompts={folder / 'prompts.jsonl'}"]
    )
    facts: dict[str, Any] = {
        name: None
        for name in ModelFacts.__dataclass_fields__
        if name not in ("spacing_mm", "classes")
    }
    known = {"min": [0.5, 0.5, 0.7], "max": [0.5, 0.5, 0.8]}
    model = ModelFacts(**facts, spacing_mm=known, classes=["negative", "positive"])
    prompt_cases(recipe.sample, PromptRules.of(recipe, model))
    return 0


def _rows(folder: Path) -> list[dict[str, object]]:
    _dataset(folder)
    row = {"label": "negative", "report": "Text, of; two", "age": 6}
    return [{"id": name, "t2w": f"{name}.nii.gz", **row} for name in ("a", "b")]


def _csv(folder: Path) -> list[Path]:
    rows = _rows(folder)
    lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    return [_write(folder / "cases.csv", "\n".join(lines) + "\n")]


def _json(folder: Path) -> list[Path]:
    return [_write(folder / "cases.json", json.dumps(_rows(folder), indent=1))]


def _xlsx(folder: Path) -> list[Path]:
    book = Workbook()
    sheet: Any = book.active
    rows = _rows(folder)
    for row in (list(rows[0]), *(list(row.values()) for row in rows)):
        sheet.append(row)
    sheet.merge_cells("D2:D3")
    book.save(folder / "cases.xlsx")
    return [folder / "cases.xlsx"]


def _import_table(folder: Path) -> int:
    (table,) = folder.glob("cases.*")
    settings = ("--set", "extra=[age]", *_ALL_TRAIN)
    return main(["import", "table", str(table), "--out", str(folder / "out"), *settings])


def _dicom(folder: Path) -> list[Path]:
    files = []
    for index in range(3):
        path = folder / f"{index}.dcm"
        image(index).save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _import_dicom(folder: Path) -> int:
    out = folder.parent / "imported"
    shutil.rmtree(out, ignore_errors=True)
    return main(["import", "dicom", str(folder), "--out", str(out), *_ALL_TRAIN])


def _weights(folder: Path) -> list[Path]:
    state = {f"block.{n}.weight": torch.full((3, 2), float(n)) for n in range(4)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "weights.pt")
    save_file(state, folder / "weights.safetensors")
    return [folder / "weights.pt", folder / "weights.safetensors"]


def _read_weights(folder: Path) -> int:
    for path in sorted(folder.glob("weights.*")):
        read_state_dict(path, what="a network", remedy="none")
    return 0


def _encoder(folder: Path) -> list[Path]:
    config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder, max_shard_size="1KB")
    words = ["<pad>", "</s>", "<unk>", "a", "b", "c", "d", "e"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return sorted(folder.iterdir())


def _build_encoder(folder: Path) -> int:
    for stream in ("never", "always"):
        encoder = builder("text_encoders", "t5")(
            path=folder,
            max_tokens=4,
            truncation="right",
            padding="none",
            device="cpu",
            stream=stream,
        )
        encoder.encode(["a b"])
    return 0


def _model(folder: Path) -> list[Path]:
    facts = {name: None for name in ModelFacts.__dataclass_fields__}
    return [_write(folder / "config.json", json.dumps(facts, indent=1))]


def _load_facts(folder: Path) -> int:
    load_facts(folder)
    return 0


def _settings(folder: Path) -> list[Path]:
    lines = ["seed=3", "prepare.size=[64, 64, 32]", "text.encoder={name: t5, path: x}", "name=x"]
    lines += ["latent.size=[16, 16, 8]"]
    return [_write(folder / "set.txt", "\n".join(lines))]


def _images(folder: Path) -> list[Path]:
    make_bases(folder)
    return sorted(folder.iterdir())


def _read_images(folder: Path) -> int:
    refused = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".raw", ".zraw"):
            try:
                volume = read_volume(path)
                assert np.isfinite(volume.affine).all(), "an affine that is not finite"
            except UserError as error:
                refused.append(error)
    if refused:
        raise refused[0]
    return 0


def _phantom(folder: Path) -> list[Path]:
    lines = ["cases=1", "seed=3", "spacing_mm=[8, 8, 8]", "size=[20, 20, 12]", "workers=1"]
    return [_write(folder / "set.txt", "\n".join([*lines, "positive_share=0.5", *_HELD_OUT]))]


def _import_phantom(folder: Path) -> int:
    return main(["import", "phantom", "--out", str(folder / "out"), *_options(folder)])


DOORS: dict[str, Door] = {
    "recipe": Door(_recipe, _validate),
    "--set": Door(_settings, _override),
    "study": Door(_study, _plan_study),
    "manifest": Door(_dataset, _check),
    "export": Door(_dataset, _export),
    "prompts": Door(_prompts, _read_prompts),
    "csv": Door(_csv, _import_table),
    "json": Door(_json, _import_table),
    "xlsx": Door(_xlsx, _import_table),
    "dicom": Door(_dicom, _import_dicom),
    "image": Door(_images, _read_images),
    "phantom": Door(_phantom, _import_phantom),
    "weights": Door(_weights, _read_weights),
    "encoder": Door(_encoder, _build_encoder),
}
