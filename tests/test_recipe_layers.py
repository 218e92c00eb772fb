"""extends, profiles, conditions and overrides: what lies over what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxella.errors import UserError
from voxella.recipe.load import assemble, load_recipe
from voxella.recipe.yaml_lines import plain

REPOSITORY = Path(__file__).parents[1]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write ``name=text`` files under the temporary folder and return it."""

    def files(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return files


def merged(path: Path, profiles: list[str] | None = None, sets: list[str] | None = None) -> Any:
    return plain(assemble(path, profiles or [], sets or []))


# extends


def test_a_chain_merges_mappings_deeply_and_replaces_lists_and_scalars(write: Write) -> None:
    folder = write(
        a="train: {steps: 1, log_every: 5}\nvectors: [{name: class}, {name: spacing}]\nseed: 1\n",
        b="extends: a.yaml\ntrain: {steps: 2}\nseed: 2\n",
        c="extends: b.yaml\nvectors: [{name: age}]\ntrain: {compile: true}\n",
    )
    assert merged(folder / "c.yaml") == {
        "train": {"steps": 2, "log_every": 5, "compile": True},
        "vectors": [{"name": "age"}],
        "seed": 2,
    }


def test_null_takes_the_place_of_an_inherited_block(write: Write) -> None:
    folder = write(a="text: {width: 3}\nseed: 1\n", b="extends: a.yaml\ntext: null\n")
    assert merged(folder / "b.yaml") == {"text": None, "seed": 1}


def test_null_removes_a_setting_of_deepspeed(write: Write) -> None:
    folder = write(
        a="deepspeed: {torch_autocast: {enabled: true}, zero_optimization: {stage: 2, x: 1}}\n",
        b="extends: a.yaml\ndeepspeed: {torch_autocast: null, zero_optimization: {x: null}}\n",
    )
    assert merged(folder / "b.yaml") == {"deepspeed": {"zero_optimization": {"stage": 2}}}


def test_a_list_of_bases_merges_in_order_and_a_common_base_once(write: Write) -> None:
    folder = write(
        base="seed: 0\nname: base\n",
        a="extends: base.yaml\nseed: 1\n",
        b="extends: base.yaml\nname: b\n",
        c="extends: [a.yaml, b.yaml]\n",
    )
    # Were base merged again below b, its seed 0 would undo a's.
    assert merged(folder / "c.yaml") == {"seed": 1, "name": "b"}


def test_bases_are_relative_to_the_file_that_names_them(write: Write) -> None:
    folder = write(
        shared__base="seed: 3\n",
        shared__deep__mid="extends: ../base.yaml\n",
        mine__r="extends: ../shared/deep/mid.yaml\n",
    )
    assert merged(folder / "mine" / "r.yaml") == {"seed": 3}


def test_a_cycle_is_refused_with_its_chain(write: Write) -> None:
    folder = write(
        start="extends: a.yaml\n",
        a="extends: b.yaml\n",
        b="seed: 1\nextends: [c.yaml]\n",
        c="extends: a.yaml\n",
    )
    with pytest.raises(UserError) as caught:
        merged(folder / "start.yaml")
    chain = " -> ".join(str(folder / f"{name}.yaml") for name in "abca")
    assert f"c.yaml:1: extends runs in a circle: {chain}" in str(caught.value)


def test_a_missing_base_names_the_line_and_the_nearest_file(write: Write) -> None:
    folder = write(_paper="seed: 1\n", r="seed: 2\nextends:\n  - _papper.yaml\n")
    with pytest.raises(UserError, match=r"r\.yaml:3: extends: there is no file") as caught:
        merged(folder / "r.yaml")
    assert "_paper.yaml?" in str(caught.value)


@pytest.mark.parametrize("text", ["extends: 3\n", "extends: {a: b}\n", "extends: [[a]]\n"])
def test_extends_takes_paths_only(write: Write, text: str) -> None:
    folder = write(r=text)
    with pytest.raises(UserError, match=r"r\.yaml:1: extends: received .*\n  expected: a path"):
        merged(folder / "r.yaml")


def test_a_component_with_another_name_replaces_the_inherited_block(write: Write) -> None:
    folder = write(
        a="name: a\nconditioner: {name: ella, width: 8}\nbackbone: {name: dit3d, depth: 2}\n"
        "text: {encoder: {name: t5, path: x}, width: 5}\nobservers: [{name: progress}]\n",
        b="extends: a.yaml\nname: b\nconditioner: {name: none}\nbackbone: {name: dit3d, width: 4}\n"
        "text: {encoder: {name: minilm}}\n",
        c="extends: b.yaml\nbackbone: {heads: 2}\n",
    )
    assert merged(folder / "c.yaml") == {
        "name": "b",  # the recipe's own name replaces no block
        "conditioner": {"name": "none"},
        "backbone": {"name": "dit3d", "depth": 2, "width": 4, "heads": 2},
        "text": {"encoder": {"name": "minilm"}, "width": 5},
        "observers": [{"name": "progress"}],
    }


# profiles


def test_profiles_lie_over_the_recipe_in_order_and_set_over_all(write: Write) -> None:
    folder = write(
        recipes__r="seed: 0\ntrain: {steps: 1}\nname: r\n",
        recipes__profiles__one="seed: 1\ntrain: {steps: 2, log_every: 2}\n",
        recipes__profiles__two="extends: base.yaml\ntrain: {steps: 3}\n",
        recipes__profiles__base="train: {compile: true}\n",
    )
    recipe = folder / "recipes" / "r.yaml"
    assert merged(recipe, ["one", "two"], ["train.log_every=9"]) == {
        "seed": 1,
        "train": {"steps": 3, "log_every": 9, "compile": True},
        "name": "r",
    }
    assert merged(recipe, ["two", "one"])["train"]["steps"] == 2


def test_a_profile_is_found_beside_the_recipe_above_it_or_beside_its_base(write: Write) -> None:
    folder = write(
        lib__base="seed: 0\n",
        lib__profiles__small="seed: 1\n",
        lib__studies__s="extends: ../base.yaml\n",
        mine__r="extends: ../lib/base.yaml\n",
    )
    assert merged(folder / "lib" / "studies" / "s.yaml", ["small"]) == {"seed": 1}
    assert merged(folder / "mine" / "r.yaml", ["small"]) == {"seed": 1}
    write(mine__profiles__small="seed: 2\n")
    assert merged(folder / "mine" / "r.yaml", ["small"]) == {"seed": 2}


def test_a_profile_can_be_a_path_from_the_current_folder(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(r="seed: 0\n", here__p="seed: 4\n")
    monkeypatch.chdir(folder / "here")
    assert merged(folder / "r.yaml", ["p.yaml"]) == {"seed": 4}
    with pytest.raises(UserError, match=r"--profile q\.yaml: there is no file q\.yaml"):
        merged(folder / "r.yaml", ["q.yaml"])


def test_an_unknown_profile_names_the_known_ones(write: Write) -> None:
    folder = write(r="seed: 0\n", profiles__demo="seed: 1\n", profiles__smoke="seed: 1\n")
    with pytest.raises(UserError, match=r"--profile smok: no smok\.yaml in ") as caught:
        merged(folder / "r.yaml", ["smok"])
    assert caught.value.expected == "demo, smoke, or the path of a .yaml file"
    assert caught.value.remedy == "--profile smoke"


# conditions

WHEN = """
seed: 7
when:
  - if: {text: {not: null}}
    set: {text: {max_tokens: 5}}
  - if: {conditioner.name: [ella, ccella]}
    set: {conditioner: {width: 64}}
  - if: {conditioner.width: 64, diffusion.schedule: {not: [rectified_flow, cosine]}}
    set: {sample: {steps: 20}}
  - if: {diffusion.schedule: rectified_flow}
    set: {sample: {sampler: euler}}
"""


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("text: null\n", {"text": None}),
        ("name: a\n", {"name": "a"}),
        ("text: {max_tokens: 9}\n", {"text": {"max_tokens": 5}}),
        (
            # the schedule is absent: the model's default counts
            "conditioner: {name: ella, width: 768}\n",
            {"conditioner": {"name": "ella", "width": 64}, "sample": {"steps": 20}},
        ),
        (
            "conditioner: {name: ella}\ndiffusion: {schedule: rectified_flow}\n",
            {
                "conditioner": {"name": "ella", "width": 64},
                "diffusion": {"schedule": "rectified_flow"},
                "sample": {"sampler": "euler"},
            },
        ),
        (
            "conditioner: {name: ella}\ndiffusion: {schedule: cosine}\n",
            {"conditioner": {"name": "ella", "width": 64}, "diffusion": {"schedule": "cosine"}},
        ),
    ],
)
def test_clauses_apply_where_all_conditions_hold(
    write: Write, recipe: str, expected: dict[str, Any]
) -> None:
    folder = write(r=recipe, profiles__p=WHEN)
    assert merged(folder / "r.yaml", ["p"]) == {"seed": 7, **expected}


def test_one_is_not_true_in_a_condition(write: Write) -> None:
    clause = "when: [{if: {train.compile: 1}, set: {seed: 5}}]\n"
    folder = write(r="train: {compile: true}\n", profiles__p=clause)
    assert "seed" not in merged(folder / "r.yaml", ["p"])


def test_overrides_choose_the_clauses_and_still_win(write: Write) -> None:
    folder = write(r="conditioner: {name: none}\n", profiles__p=WHEN)
    sets = ["conditioner.name=ella", "sample.steps=3"]
    got = merged(folder / "r.yaml", ["p"], sets)
    assert got["conditioner"] == {"name": "ella", "width": 64}
    assert got["sample"] == {"steps": 3}


def test_a_later_profile_overrules_a_clause(write: Write) -> None:
    folder = write(
        r="conditioner: {name: ella}\n", profiles__p=WHEN, profiles__q="conditioner: {width: 8}\n"
    )
    assert merged(folder / "r.yaml", ["p", "q"])["conditioner"]["width"] == 8
    assert merged(folder / "r.yaml", ["q", "p"])["conditioner"]["width"] == 64


def test_clauses_of_a_base_judge_the_whole_chain(write: Write) -> None:
    folder = write(
        base="diffusion: {schedule: cosine}\n"
        "when: [{if: {diffusion.schedule: linear}, set: {seed: 1}}]\n",
        r="extends: base.yaml\ndiffusion: {schedule: linear}\n",
    )
    assert merged(folder / "r.yaml")["seed"] == 1


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("{if: {seed: 1}, set: {}}", "when: not a list"),
        ("[{if: {seed: 1}}]", "when: received"),
        ("[{if: {seed: 1}, set: {}, else: {}}]", "when: received"),
        ("[{if: {seed: {or: 1}}, set: {}}]", r"when: seed: received \{'or': 1\}"),
        ("[{if: {seed: [[1]]}, set: {}}]", "only words, numbers, booleans and null"),
        ("[{if: {diffusion.shedule: linear}, set: {}}]", "did you mean diffusion.schedule?"),
        ("[{if: {txt: null}, set: {}}]", "did you mean text?"),
        ("[{if: {seed: 1}, set: {extends: a.yaml}}]", "set cannot hold 'extends'"),
    ],
)
def test_a_malformed_clause_is_refused(write: Write, when: str, message: str) -> None:
    folder = write(r=f"seed: 0\nwhen: {when}\n")
    with pytest.raises(UserError) as caught:
        merged(folder / "r.yaml")
    assert message.replace("\\", "") in str(caught.value)
    assert "r.yaml:2" in str(caught.value)


# overrides


def test_overrides_are_yaml_reach_into_lists_and_make_blocks(write: Write) -> None:
    folder = write(r="vectors: [{name: class, scale: 100}, {name: spacing}]\ntrain: {epochs: 4}\n")
    sets = [
        "vectors.0.scale=1e-2",
        "vectors.1.name=age",
        "train.epochs=null",
        "train.steps=200",
        "backbone={name: dit3d, depth: 1}",
        "prepare.size=[16, 16, 8]",
        "description=a = b",
        "deepspeed.zero_optimization.stage=1",
    ]
    assert merged(folder / "r.yaml", sets=sets) == {
        "vectors": [{"name": "class", "scale": 0.01}, {"name": "age"}],
        "train": {"epochs": None, "steps": 200},
        "backbone": {"name": "dit3d", "depth": 1},
        "prepare": {"size": [16, 16, 8]},
        "description": "a = b",
        "deepspeed": {"zero_optimization": {"stage": 1}},
    }


def test_an_override_of_a_name_replaces_a_component_even_in_a_list(write: Write) -> None:
    folder = write(
        r="observers: [{name: progress, every: 3}]\nconditioner: {name: ella, width: 3}\n"
    )
    got = merged(folder / "r.yaml", sets=["observers.0.name=tensorboard", "conditioner.name=none"])
    assert got == {"observers": [{"name": "tensorboard"}], "conditioner": {"name": "none"}}


def test_malformed_overrides_are_refused_together(write: Write) -> None:
    folder = write(r="seed: 0\n")
    with pytest.raises(UserError) as caught:
        merged(
            folder / "r.yaml", sets=["noequals", ".a=3", "seed=", "seed=[1", "seed=!!python/x y"]
        )
    message = str(caught.value)
    for part in [
        "--set noequals: there is no '='",
        "--set .a=3: the key has an empty part",
        "--set seed=: there is no value (write null to switch something off)",
        "--set seed=[1: not YAML",
        "the tag !!python/x is refused",
        "KEY=VALUE",
    ]:
        assert part in message


def test_overrides_without_a_place_are_refused_together(write: Write) -> None:
    folder = write(r="vectors: [{name: class}]\ntrain: {steps: 4}\n")
    with pytest.raises(UserError) as caught:
        merged(folder / "r.yaml", sets=["vectors.1.scale=2", "vectors.x=2", "train.steps.a=1"])
    assert str(caught.value).splitlines()[:3] == [
        "--set vectors.1.scale=2: vectors is a list of 1: index 1 is not in it",
        "--set vectors.x=2: vectors is a list of 1: index x is not in it",
        "--set train.steps.a=1: train.steps is 4 and has no keys",
    ]


# old names of keys


def test_a_key_by_its_old_name_is_read_and_named(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(
        a="evaluate: {floor_halves: 3, level: 0.9}\n",
        b="extends: a.yaml\nevaluate: {baseline_halves: 5}\n",
        c="extends: b.yaml\nevaluate: {floor_halves: 7}\n",
    )
    assert merged(folder / "a.yaml") == {"evaluate": {"baseline_halves": 3, "level": 0.9}}
    told = capsys.readouterr().err
    assert "a.yaml:1" in told
    assert "evaluate.floor_halves is called evaluate.baseline_halves now" in told
    # The later layer wins, whichever name it writes.
    assert merged(folder / "b.yaml")["evaluate"]["baseline_halves"] == 5
    assert merged(folder / "c.yaml")["evaluate"]["baseline_halves"] == 7
    sets = ["evaluate.floor_halves=9"]
    assert merged(folder / "c.yaml", sets=sets)["evaluate"] == {"baseline_halves": 9, "level": 0.9}
    assert "--set evaluate.floor_halves=9: " in capsys.readouterr().err


def test_a_layer_that_writes_both_names_is_refused(write: Write) -> None:
    folder = write(a="evaluate: {floor_halves: 3, baseline_halves: 4}\n")
    recipe = REPOSITORY / "recipes" / "ccella.yaml"
    with pytest.raises(UserError, match=r"floor_halves"):
        load_recipe(recipe, [str(folder / "a.yaml")])
