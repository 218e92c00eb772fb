"""The recipes that ship: each loads under each profile and says what the paper says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from voxella.recipe.load import assemble, dump_recipe, load_recipe
from voxella.recipe.model import PaperRow
from voxella.recipe.schema import recipe_schema
from voxella.recipe.yaml_lines import plain, read_yaml

ROOT = Path(__file__).parents[1] / "recipes"
NINE = ["base", "radbase", "ellabase", "decoupled", "l1only", "ccella", "shared", "first", "last"]
RECIPES = [*NINE, "ccella-released", "ccella-rflow"]
OWN = ["phantom"]  # brings its own data, sizes and first stage: no profile lies over it
# Profiles that train for minutes on two CPU cores: not the paper's training.
MINUTES = ["demo", "phantoms", "two-cores"]
HARDWARE = ["compact", "demo", "phantoms", "smoke", "two-cores", "gpu24", "gpu80"]
PROFILES = [*HARDWARE, "phantom-study", "released", "released-weight"]
OF_TILES = ["smoke-tiles"]
# Lies over a trained model's own recipe: test_pair.py runs it.
OF_MODELS = ["continued"]
FILES = sorted([*ROOT.glob("*.yaml"), *(ROOT / "profiles").glob("*.yaml")])


def test_these_are_all_the_recipes_and_profiles() -> None:
    assert sorted(file.stem for file in ROOT.glob("[!_]*.yaml")) == sorted([*RECIPES, *OWN])
    assert sorted(file.stem for file in (ROOT / "profiles").glob("*.yaml")) == sorted(
        [*PROFILES, *OF_TILES, *OF_MODELS]
    )
    assert sorted(file.stem for file in (ROOT / "tiles").glob("*.yaml")) == ["base"]


@pytest.mark.parametrize("profile", [None, *PROFILES])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_loads_under_every_profile(
    name: str, profile: str | None, tmp_path: Path
) -> None:
    recipe = load_recipe(ROOT / f"{name}.yaml", [] if profile is None else [profile])
    assert recipe.name == name
    assert (recipe.text is None) is (name in ("base", "radbase"))
    assert (recipe.sample.sampler == "euler") is (name == "ccella-rflow")
    copy = tmp_path / "recipe.yaml"
    copy.write_text(dump_recipe(recipe))
    assert load_recipe(copy) == recipe


@pytest.mark.parametrize("profiles", [[], OF_TILES])
def test_the_recipe_of_tiles_loads_with_and_without_its_profile(profiles: list[str]) -> None:
    recipe = load_recipe(ROOT / "tiles" / "base.yaml", profiles)
    assert recipe.image_channels == 3
    assert len(recipe.prepare.size) == len(recipe.latent.size) == 2


@pytest.mark.parametrize("profile", HARDWARE)
@pytest.mark.parametrize("name", RECIPES)
def test_a_profile_keeps_the_experiment(name: str, profile: str) -> None:
    bare = load_recipe(ROOT / f"{name}.yaml")
    under = load_recipe(ROOT / f"{name}.yaml", [profile])
    for block in ("loss", "dropout", "paper"):
        assert getattr(under, block) == getattr(bare, block)
    assert [vector.name for vector in under.vectors] == [vector.name for vector in bare.vectors]
    if profile in MINUTES:
        # They say in the file why: hundreds of steps do not suffice for epsilon, nor 4 mm x 100.
        v_for_epsilon = {"epsilon": "v"}.get(bare.diffusion.prediction, bare.diffusion.prediction)
        expected = bare.diffusion.model_copy(update={"prediction": v_for_epsilon})
        assert under.diffusion == expected
    else:
        assert under.diffusion == bare.diffusion
        assert under.vectors == bare.vectors
    assert under.conditioner.name == bare.conditioner.name
    assert under.latent.draw == bare.latent.draw
    assert (under.train.ema_decay is None) is (bare.train.ema_decay is None)


@pytest.mark.parametrize("name", RECIPES)
def test_the_released_weight_changes_the_class_loss_alone(name: str) -> None:
    bare = load_recipe(ROOT / f"{name}.yaml", ["phantoms"])
    under = load_recipe(ROOT / f"{name}.yaml", ["phantoms", "released-weight"])
    scale = 1.0 if bare.loss.class_weight == 0 else 100.0
    loss = bare.loss.model_copy(update={"class_target_scale": scale})
    assert under == bare.model_copy(update={"loss": loss})


# Tables 1 and 2 of arXiv 2506.10230, typed from the paper: 3D FID; 2D FID sagittal, coronal,
# axial; accuracy, sensitivity, specificity, PPV, NPV of the text head.
PAPER: dict[str, tuple[float, ...]] = {
    "base": (0.071, 10.03, 8.75, 13.24),
    "radbase": (0.077, 10.96, 9.53, 14.10),
    "ellabase": (0.080, 11.64, 10.40, 15.20),
    "decoupled": (0.048, 8.33, 7.58, 11.57),
    "l1only": (0.051, 7.93, 7.21, 10.94),
    "shared": (0.065, 7.84, 7.05, 11.01, 0.83, 0.82, 0.85, 0.87, 0.79),
    "first": (0.053, 10.60, 9.33, 14.16, 0.82, 0.79, 0.86, 0.88, 0.76),
    "last": (0.051, 8.30, 7.16, 11.34, 0.82, 0.79, 0.85, 0.87, 0.77),
    "ccella": (0.025, 5.27, 4.73, 8.09, 0.81, 0.77, 0.86, 0.87, 0.75),
}


@pytest.mark.parametrize("name", NINE)
def test_the_paper_row_is_the_papers(name: str) -> None:
    # Tables 1 and 2 have nine columns; what follows is of table 3.
    numbers = [*PAPER[name], *[None] * (9 - len(PAPER[name]))]
    fields = [field for field in PaperRow.model_fields if field != "model"][:9]
    row = PaperRow.model_validate({"model": name, **dict(zip(fields, numbers, strict=True))})
    assert load_recipe(ROOT / f"{name}.yaml").paper == row


# name -> conditioner, class vector to the U-Net, weight of the class loss (method.md, section 2)
DESIGN: dict[str, tuple[str, bool, float]] = {
    "base": ("none", False, 0.0),
    "radbase": ("radclass", True, 0.0),
    "ellabase": ("ella", False, 0.0),
    "decoupled": ("ella", True, 0.0),
    "l1only": ("ccella", True, 0.0),
    "ccella": ("ccella", True, 1e-4),
    "shared": ("shared", True, 1e-4),
    "first": ("first", True, 1e-4),
    "last": ("last", True, 1e-4),
}


@pytest.mark.parametrize("name", NINE)
def test_the_nine_differ_as_in_the_paper_and_share_the_rest(name: str) -> None:
    recipe = load_recipe(ROOT / f"{name}.yaml")
    conditioner, class_vector, weight = DESIGN[name]
    assert recipe.conditioner.name == conditioner
    assert recipe.conditioner.arguments.get("class_vector", False) is (name == "decoupled")
    assert [v.name for v in recipe.vectors] == ["class", "spacing"][0 if class_vector else 1 :]
    assert {v.scale for v in recipe.vectors} == {100.0}
    assert recipe.loss.class_weight == weight
    if conditioner not in ("none", "radclass"):
        sizes = [
            recipe.conditioner.arguments[key] for key in ("width", "queries", "blocks", "heads")
        ]
        assert sizes == [768, 256, 6, 8]
        assert recipe.text is not None
        assert (recipe.text.width, recipe.text.max_tokens) == (4096, 512)
        assert recipe.text.encoder.arguments["path"] == ROOT.parent / "weights" / "flan-t5-xxl"
    assert recipe.prepare.size == [256, 256, 128]
    assert recipe.prepare.crop_mm == [128.0, 128.0, None]
    assert [recipe.latent.channels, *recipe.latent.size] == [4, 64, 64, 32]
    assert recipe.autoencoder.arguments["weights"] == ROOT.parent / "weights/maisi_autoencoder.pt"
    assert recipe.diffusion.model_dump() == {
        "schedule": "scaled_linear",
        "steps": 1000,
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "prediction": "epsilon",
    }
    assert (recipe.loss.reconstruction, recipe.loss.focal_gamma, recipe.loss.focal_alpha) == (
        "l1",
        2.0,
        0.75,
    )
    assert (recipe.optimizer.lr, recipe.optimizer.decay_power) == (1e-4, 2.0)
    assert (recipe.train.epochs, recipe.train.ema_decay) == (400, 0.9999)
    assert recipe.deepspeed == {
        "train_batch_size": 16,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 2},
        "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
    }
    assert (recipe.sample.sampler, recipe.sample.steps) == ("ddpm", 1000)
    assert recipe.sample.int16_scale == 962.0


def test_the_released_recipe_is_paper_mode() -> None:
    recipe = load_recipe(ROOT / "ccella-released.yaml")
    assert recipe.loss.class_target_scale == 100.0
    assert (recipe.latent.draw, recipe.latent.scale) == ("fixed", "first_batch")
    assert recipe.text is not None
    assert (recipe.text.padding, recipe.text.truncation) == ("max", "left")
    assert recipe.text.dtype == "float32"
    assert recipe.train.ema_decay is None
    ours = load_recipe(ROOT / "ccella.yaml")
    assert (ours.backbone, ours.conditioner) == (recipe.backbone, recipe.conditioner)


def test_the_profile_of_the_released_code_is_the_released_recipe() -> None:
    own = {"name", "description"}
    recipe = load_recipe(ROOT / "ccella-released.yaml").model_dump(exclude=own)
    assert load_recipe(ROOT / "ccella.yaml", ["released"]).model_dump(exclude=own) == recipe


@pytest.mark.parametrize("name", NINE)
def test_the_profile_of_the_released_code_keeps_the_networks(name: str) -> None:
    bare = load_recipe(ROOT / f"{name}.yaml")
    under = load_recipe(ROOT / f"{name}.yaml", ["released"])
    for block in ("backbone", "conditioner", "vectors", "diffusion"):
        assert getattr(under, block) == getattr(bare, block)
    assert (under.latent.draw, under.train.ema_decay) == ("fixed", None)
    assert (under.text is None) is (bare.text is None)


@pytest.mark.parametrize("name", ["ddpm", "flow"])
@pytest.mark.parametrize("profiles", [[], ["smoke"]])
def test_maisis_recipes_load_with_and_without_a_profile(name: str, profiles: list[str]) -> None:
    recipe = load_recipe(ROOT / "maisi" / f"{name}.yaml", profiles)
    assert recipe.name == f"maisi-{name}"
    flow = name == "flow"
    assert (recipe.diffusion.prediction == "flow") is flow
    assert recipe.backbone.arguments.get("maisi_flow", False) is flow
    assert recipe.sample.timestep_shift == (32 if flow else None)
    assert recipe.sample.shift([64, 64, 32]) == pytest.approx(4 ** (1 / 3) if flow else 1)


def test_the_flow_recipe_samples_in_30_steps() -> None:
    recipe = load_recipe(ROOT / "ccella-rflow.yaml")
    assert (recipe.diffusion.schedule, recipe.diffusion.prediction) == ("rectified_flow", "flow")
    assert (recipe.sample.sampler, recipe.sample.steps) == ("euler", 30)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_executable_and_opens_with_its_launch_lines(name: str) -> None:
    file = ROOT / f"{name}.yaml"
    assert os.access(file, os.X_OK)
    lines = file.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env -S voxella train"
    assert lines[1] == "# yaml-language-server: $schema=schema.json"
    commands = [re.split(r"\s{2,}", line[1:].strip())[0] for line in lines if "voxella" in line]
    assert commands[-2:] == [
        f"voxella train recipes/{name}.yaml",
        f"deepspeed --module voxella recipes/{name}.yaml",
    ]
    assert any(line.startswith(f"#   deepspeed --no_python recipes/{name}.yaml ") for line in lines)


def test_the_deepspeed_block_of_a_profile_on_cpu_has_no_autocast() -> None:
    for profile in ("demo", "smoke"):
        block = load_recipe(ROOT / "ccella.yaml", [profile]).deepspeed
        assert "torch_autocast" not in block
        assert block["zero_optimization"] == {"stage": 0}
        assert block["gradient_clipping"] == 1.0


# the schema


def test_the_schema_file_is_the_generated_one() -> None:
    written = json.loads((ROOT / "schema.json").read_text())
    assert written == recipe_schema(), "voxella recipe schema --out recipes/schema.json"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_fits_the_schema(file: Path) -> None:
    assert list(misfits(plain(read_yaml(file)), recipe_schema())) == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_whole_recipe_fits_the_schema(name: str) -> None:
    whole = plain(assemble(ROOT / f"{name}.yaml", ["smoke"]))
    assert list(misfits(whole, recipe_schema())) == []


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"trian": {}}, "$.trian"),
        ({"train": {"steps": "3"}}, "$.train.steps"),
        ({"train": {"steps": 0}}, "$.train.steps"),
        ({"latent": {"draw": "resampel"}}, "$.latent.draw"),
        ({"extends": 3}, "$.extends"),
        ({"when": [{"if": {}}]}, "$.when.0"),
        ({"when": [{"if": {}, "set": {"trian": 1}}]}, "$.when.0.set.trian"),
        ({"vectors": [{"nam": "x"}]}, "$.vectors.0.nam"),
        ({"conditioner": {"name": 3}}, "$.conditioner.name"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(data: dict[str, Any], path: str) -> None:
    assert path in list(misfits(data, recipe_schema()))


def test_the_schema_suggests_our_plugins_and_takes_any() -> None:
    schema = recipe_schema()
    conditioner = schema["properties"]["conditioner"]["$ref"].removeprefix("#/$defs/")
    name = schema["$defs"][conditioner]["properties"]["name"]
    assert {"none", "radclass", "ella", "ccella"} <= set(name["anyOf"][0]["enum"])
    assert list(misfits({"conditioner": {"name": "from_elsewhere", "age": 3}}, schema)) == []
    encoder = schema["$defs"]["Text"]["properties"]["encoder"]["$ref"].removeprefix("#/$defs/")
    assert "t5" in schema["$defs"][encoder]["properties"]["name"]["anyOf"][0]["enum"]


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_SILENT = {"title", "description", "default", "format", "$defs", "$schema"}


def misfits(data: Any, schema: dict[str, Any], at: str = "$", root: Any = None) -> list[str]:
    """Validate against the part of JSON Schema that ours uses; an unknown keyword is an error."""
    root = schema if root is None else root
    found: list[str] = []
    for keyword, rule in schema.items():
        bad = False
        match keyword:
            case "$ref":
                target = root
                for part in rule.removeprefix("#").strip("/").split("/"):
                    target = target[part] if part else target
                found += misfits(data, target, at, root)
            case "type":
                is_bool = isinstance(data, bool) and rule != "boolean"
                bad = is_bool or not isinstance(data, _TYPES[rule])
            case "anyOf":
                bad = not any(not misfits(data, option, at, root) for option in rule)
            case "enum":
                bad = data not in rule
            case "const":
                bad = data != rule
            case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
                bad = not _in_range(keyword, data, rule)
            case "minItems":
                bad = isinstance(data, list) and len(data) < rule
            case "maxItems":
                bad = isinstance(data, list) and len(data) > rule
            case "required":
                bad = isinstance(data, dict) and not set(rule) <= set(data)
            case "items":
                for index, item in enumerate(data if isinstance(data, list) else []):
                    found += misfits(item, rule, f"{at}.{index}", root)
            case "prefixItems":
                pairs = zip(data if isinstance(data, list) else [], rule, strict=False)
                for index, (item, sub) in enumerate(pairs):
                    found += misfits(item, sub, f"{at}.{index}", root)
            case "properties":
                for key in data if isinstance(data, dict) else []:
                    if key in rule:
                        found += misfits(data[key], rule[key], f"{at}.{key}", root)
            case "additionalProperties":
                if rule is False and isinstance(data, dict):
                    found += [f"{at}.{key}" for key in data if key not in schema["properties"]]
            case _:
                assert keyword in _SILENT, f"the check does not know {keyword}"
        if bad:
            found.append(at)
    return found


def _in_range(keyword: str, data: Any, bound: float) -> bool:
    if isinstance(data, bool) or not isinstance(data, int | float):
        return True
    return {
        "minimum": data >= bound,
        "maximum": data <= bound,
        "exclusiveMinimum": data > bound,
        "exclusiveMaximum": data < bound,
    }[keyword]
