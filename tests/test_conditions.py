"""Conditions by name: from a case's number or word to the conditioner, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor, nn

from voxella.cache.latents import LatentCache
from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.check.conditions import check_training_conditions, condition_findings
from voxella.conditioning import Conditioning
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.build import build_model
from voxella.ldm.conditions import encoded, refuse_other, refuse_values, seen, wrong_conditions
from voxella.ldm.export import load_facts
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.request import Request, request_for
from voxella.ldm.train import train
from voxella.recipe.condition import Condition
from voxella.recipe.load import dump_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

AGE = Condition(kind="number", range=[40, 90])
SCANNER = Condition(kind="category", values=["skyra", 1.5])
BOTH = (
    "conditions={age: {kind: number, range: [40, 90]}, scanner: {kind: category, values: [A, B]}}",
    "vectors=[{name: age, scale: 10}, {name: spacing, scale: 1}, {name: scanner, scale: 3}]",
)


def case(name: str = "a", **conditions: float | str | None) -> Case:
    return Case(
        id=name,
        group=name,
        images={},
        conditions=conditions,
        extra={"spacing_mm": [1.0, 1.0, 1.0]},
    )


@pytest.mark.parametrize(
    ("value", "numbers"),
    [(40, [-1, 1]), (65, [0, 1]), (90, [1, 1]), (77.5, [0.5, 1]), (None, [0, 0]), ("", [0, 0])],
)
def test_a_number_is_its_place_in_its_range_and_whether_it_is_known(
    value: Any, numbers: list[float]
) -> None:
    assert AGE.problem(value) is None
    assert AGE.encode(value) == numbers


@pytest.mark.parametrize(
    ("value", "numbers"),
    [("skyra", [1, 0]), (1.5, [0, 1]), ("1.5", [0, 1]), (None, [0, 0])],
)
def test_a_category_is_one_hot_and_zeros_where_it_is_missing(
    value: Any, numbers: list[float]
) -> None:
    assert SCANNER.problem(value) is None
    assert SCANNER.encode(value) == numbers


def test_what_is_outside_is_refused_clipped_or_missing() -> None:
    clip, absent = (AGE.model_copy(update={"outside": how}) for how in ("clip", "missing"))
    assert [AGE.problem(v) for v in (39.9, 90.1)] == ["is not a number from 40 to 90"] * 2
    assert AGE.problem("sixty") == "is a word, not a number"
    assert clip.problem("sixty") == "is a word, not a number"
    assert (clip.problem(120), clip.encode(120), clip.encode(-3)) == (None, [1, 1], [-1, 1])
    assert (absent.problem(120), absent.encode(120)) == (None, [0, 0])
    assert SCANNER.problem("prisma") == "is not one of skyra, 1.5"
    strict = AGE.model_copy(update={"missing": "refuse"})
    assert strict.problem(None) == "is missing, and missing: refuse"
    assert absent.model_copy(update={"missing": "refuse"}).problem(120) is not None


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"kind": "number"}, "a number has a range"),
        ({"kind": "number", "range": [40, 90], "values": ["a"]}, "no values"),
        ({"kind": "number", "range": [90, 40]}, "low < high"),
        ({"kind": "category", "range": [40, 90]}, "a category has values"),
        ({"kind": "category", "values": []}, "at least 1"),
        ({"kind": "category", "values": ["3", 3]}, "is duplicated"),
        ({"kind": "category", "values": ["a"], "outside": "clip"}, "no ends to clip to"),
        ({"kind": "category", "values": ["a sentence of far more words than four"]}, "words"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(block: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Condition.model_validate(block)


@pytest.mark.parametrize(
    ("name", "told"),
    [("text", "meaning of its own"), ("spacing", "meaning"), ("a-b", "expected: letters")],
)
def test_a_name_that_is_taken_or_no_argument_is_refused(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        tiny_recipe(f"conditions={{{name}: {{kind: number, range: [0, 1]}}}}", name="base")


def test_null_takes_conditions_away_and_a_recipe_without_is_written_as_before() -> None:
    recipe = tiny_recipe(*BOTH, name="base")
    assert list(recipe.conditions) == ["age", "scanner"]
    one = tiny_recipe(*BOTH, "conditions.age=null", name="base")
    assert list(one.conditions) == ["scanner"]
    none = tiny_recipe(*BOTH, "conditions=null", name="base")
    assert none.conditions == {}
    assert "conditions:" not in dump_recipe(none)


def test_a_case_keeps_numbers_and_codes_and_no_sentence() -> None:
    kept = case(age=63, scanner="MAGNETOM Skyra", psa=None)
    assert kept.conditions == {"age": 63.0, "scanner": "MAGNETOM Skyra", "psa": None}
    assert Case.model_validate_json(kept.model_dump_json(exclude_none=True)) == kept
    assert "conditions" not in case().model_dump()
    secret = "a lesion in the left peripheral zone was seen"
    for wrong in ({"a": secret}, {secret: 1.0}, {"a": True}, {"a": float("nan")}, {"a": [1]}):
        with pytest.raises(ValidationError) as refused:
            Case(id="a", group="a", images={}, conditions=wrong)
        assert secret not in str(refused.value)


def builder_of(
    recipe: Recipe, run: Path, values: Callable[[int], Mapping[str, Any]]
) -> LatentBatchBuilder:
    folders = conditioned_run(recipe, run, values)
    cases = {case.id: case for case in Manifest.read(folders.prepared)}
    text = TextCache.open(folders.text, recipe.text) if recipe.text else None
    return LatentBatchBuilder(
        BatchSettings.of(recipe), cases, LatentCache.open(folders.latents), text, 1.0
    )


def conditioned_run(
    recipe: Recipe, run: Path, values: Callable[[int], Mapping[str, Any]], cases: int = 7
) -> Folders:
    """A tiny run whose case number ``n`` has the conditions ``values(n)``."""
    folders = encoded_run(recipe, run, cases=cases)
    manifest = Manifest.read(folders.prepared)
    told = [
        case.model_copy(update={"conditions": dict(values(n))}) for n, case in enumerate(manifest)
    ]
    Manifest(folders.prepared, told).write()
    return folders


def known(n: int) -> dict[str, Any]:
    return {"age": 40.0 + 5 * n, "scanner": "AB"[n % 2]} if n != 2 else {}


KEYS = [SampleKey(f"case-{n}", 0) for n in range(4)]


def test_a_batch_holds_every_condition_of_its_cases(tmp_path: Path) -> None:
    batch = builder_of(tiny_recipe(*BOTH, name="base"), tmp_path, known).make(KEYS)
    expected = [[-1.0, 1.0], [-0.8, 1.0], [0.0, 0.0], [-0.4, 1.0]]
    torch.testing.assert_close(batch.conditions["age"], torch.tensor(expected))
    assert batch.conditions["scanner"].tolist() == [[1, 0], [0, 1], [0, 0], [0, 1]]
    assert batch.to("cpu").conditions.keys() == {"age", "scanner"}


def test_dropout_takes_all_conditions_of_a_case_and_both_takes_the_text_too(
    tmp_path: Path,
) -> None:
    vectors = "vectors=[{name: class, scale: 1}, {name: age, scale: 1}, {name: scanner, scale: 1}]"
    keys = [SampleKey(f"case-{n % 7}", epoch) for n, epoch in enumerate(range(200))]

    def shown(*overrides: str) -> tuple[Tensor, Tensor, Tensor]:
        recipe = tiny_recipe(BOTH[0], vectors, *overrides)
        builder = builder_of(recipe, tmp_path / "-".join(overrides), lambda n: known(n) or known(1))
        batch = builder.make(keys)
        assert batch.drop_label is not None
        age, scanner = batch.conditions["age"][:, 1] > 0, batch.conditions["scanner"].any(dim=1)
        assert torch.equal(age, scanner), "one condition was dropped without the other"
        return age, ~batch.drop_label, batch.has_report

    age, label, _ = shown("dropout.conditions=0.3")
    assert label.all()
    # Binomial(200, 0.7): five deviations.
    assert abs(int(age.sum()) - 140) < 33
    age, label, _ = shown("dropout.both=0.5")
    assert torch.equal(age, label)
    assert 60 < int(age.sum()) < 140
    age, label, _ = shown("dropout.label=0.5")
    assert age.all()
    assert not label.all()


class Recorder(nn.Module):
    """A conditioner that keeps what it was called with."""

    context_dim: int | None = None

    def __init__(self, needs: frozenset[str]) -> None:
        super().__init__()
        self.vector_sizes: Mapping[str, int] = {}
        self.needs = needs
        self.called: dict[str, Any] = {}

    def forward(self, **called: Any) -> Conditioning:
        self.called = called
        return Conditioning()


class OldRecorder(Recorder):
    """One from before ``needs`` decided the call."""

    def forward(  # type: ignore[override] # it takes less, as old ones do
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None,
        text_mask: Tensor | None,
        label: Tensor | None,
    ) -> Conditioning:
        self.called = {"text_features": text_features, "text_mask": text_mask, "label": label}
        return Conditioning()


def test_a_conditioner_is_called_with_what_it_needs_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered: dict[str, int] = {}

    def recorder(
        *, conditions: Mapping[str, int], needs: list[str], old: bool = False
    ) -> nn.Module:
        offered.update(conditions)
        return (OldRecorder if old else Recorder)(frozenset(needs))

    monkeypatch.setattr("plugins_faulty.recorder", recorder, raising=False)
    monkeypatch.setenv("VOXELLA_PLUGINS", "conditioners:recorder=plugins_faulty:recorder")
    recipe = tiny_recipe(
        BOTH[0],
        "conditioner={name: recorder, needs: [age, scanner, spacing, label]}",
        "vectors=[]",
        name="base",
    )
    model = build_model(recipe)
    assert offered == {"label": 2, "spacing": 3, "age": 2, "scanner": 2}
    age = torch.tensor([[0.2, 1.0]])
    model.condition(
        timesteps=torch.tensor([5]),
        label=torch.tensor([1]),
        spacing_mm=torch.tensor([[1.0, 2.0, 3.0]]),
        conditions={"age": age},
    )
    called: dict[str, Any] = model.conditioner.called  # type: ignore[assignment] # of nn.Module
    assert called.keys() == {"timesteps", "age", "scanner", "spacing", "label"}
    assert torch.equal(called["age"], age)
    assert called["scanner"].tolist() == [[0, 0]], "what is not given is not known"
    assert called["spacing"].tolist() == [[1, 2, 3]]
    assert called["label"].tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="give spacing_mm"):
        model.condition(timesteps=torch.tensor([5]))
    with pytest.raises(ValueError, match="no condition height here; there is: age, scanner"):
        model.condition(
            timesteps=torch.tensor([5]), spacing_mm=torch.ones(1, 3), conditions={"height": age}
        )
    with pytest.raises(ValueError, match=r"age: shape \(1, 3\), expected: \(1, 2\)"):
        model.condition(
            timesteps=torch.tensor([5]),
            spacing_mm=torch.ones(1, 3),
            conditions={"age": torch.ones(1, 3)},
        )
    old = tiny_recipe(
        "conditioner={name: recorder, needs: [label], old: true}", "vectors=[]", name="base"
    )
    model = build_model(old)
    model.condition(timesteps=torch.tensor([5]), label=torch.tensor([0]))
    called = model.conditioner.called  # type: ignore[assignment] # of nn.Module
    assert called["label"].tolist() == [[1, 0]]
    assert (called["text_features"], called["text_mask"]) == (None, None)


def test_a_condition_without_conditioner_is_joined_as_a_vector(tmp_path: Path) -> None:
    recipe = tiny_recipe(*BOTH, name="base")
    model = build_model(recipe)
    batch = builder_of(recipe, tmp_path, known).make(KEYS)
    told = model.condition(
        timesteps=batch.timesteps, spacing_mm=batch.spacing_mm, conditions=batch.conditions
    )
    assert list(told.vectors) == ["age", "spacing", "scanner"]
    assert torch.equal(told.vectors["age"], 10 * batch.conditions["age"])
    assert torch.equal(told.vectors["scanner"], 3 * batch.conditions["scanner"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ((BOTH[0],), "nothing reads the conditions age, scanner"),
        ((BOTH[1],), "unknown: .'age', 'scanner'."),
    ],
)
def test_conditions_and_readers_have_to_fit(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        build_model(tiny_recipe(*overrides, name="base"))


def awake(recipe: Recipe) -> Any:
    model = build_model(recipe)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("lacks", "null"),
    [
        ("[text,label,conditions]", {"age": [0, 0], "scanner": [0, 0]}),
        ("[age]", {"age": [0, 0], "scanner": [0, 3]}),
        ("[text]", {"age": [10, 10], "scanner": [0, 3]}),
    ],
)
def test_the_unconditional_prediction_lacks_the_conditions_that_the_recipe_says(
    lacks: str, null: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(*BOTH, "sample.guidance=2", f"sample.guidance_null={lacks}", name="base")
    model = awake(recipe)
    told: list[Conditioning] = []
    genuine = model.predict

    def predict(x: Tensor, t: Tensor, conditioning: Conditioning) -> Any:
        told.append(conditioning)
        return genuine(x, t, conditioning)

    monkeypatch.setattr(model, "predict", predict)
    classes, asked = recipe.data.classes, case(age=90, scanner="B")
    request = request_for(classes, recipe.conditions, asked, None, "a")
    generate(model, GenerationSettings.of(recipe), [request], device=torch.device("cpu"))
    given, without = told[0].vectors, told[1].vectors
    assert given["age"].tolist() == [[10, 10]]
    assert given["scanner"].tolist() == [[0, 3]]
    assert {name: without[name].tolist()[0] for name in null} == null


def test_a_volume_depends_on_its_conditions_and_missing_is_a_value_of_its_own() -> None:
    recipe = tiny_recipe(*BOTH, name="base")
    model = awake(recipe)
    asked = [case(age=45), case(age=85), case(age=65), case(), case(age=45, scanner="A")]
    classes = recipe.data.classes
    requests = [request_for(classes, recipe.conditions, one, None, "same-noise") for one in asked]
    settings, cpu = GenerationSettings.of(recipe), torch.device("cpu")
    made = [generate(model, settings, [one], device=cpu).latents for one in requests]
    for n, one in enumerate(made):
        assert all(not torch.equal(one, other) for other in made[n + 1 :])
    bare = Request("same-noise", None, -1, (1.0, 1.0, 1.0))
    assert torch.equal(generate(model, settings, [bare], device=cpu).latents, made[3])


def test_training_records_and_reads_the_values(tmp_path: Path) -> None:
    recipe = tiny_recipe(*BOTH, "train.steps=2", name="base")
    folders = conditioned_run(recipe, tmp_path, known)
    train(recipe, tmp_path)
    facts = load_facts(folders.model)
    assert facts.conditions["age"] == {
        **recipe.conditions["age"].model_dump(mode="json"),
        "cases_known": 6,
        "cases_missing": 1,
    }
    assert facts.conditions["scanner"]["seen"] == ["A", "B"]
    record = json.loads((tmp_path / "train" / "stage.json").read_text())
    conditioned_run(recipe, tmp_path / "other", lambda n: known(n) | {"age": 60.0})
    train(recipe, tmp_path / "other")
    other = json.loads((tmp_path / "other" / "train" / "stage.json").read_text())
    assert record["inputs"]["conditions"][0] == other["inputs"]["conditions"][0]
    assert record["inputs"]["conditions"][1] != other["inputs"]["conditions"][1]
    weights = [f / "model" / "model.safetensors" for f in (tmp_path, tmp_path / "other")]
    assert weights[0].read_bytes() != weights[1].read_bytes(), "the values taught nothing"


def test_values_that_cannot_be_taken_are_refused_by_training_all_at_once(tmp_path: Path) -> None:
    recipe = tiny_recipe(*BOTH, name="base")
    conditioned_run(recipe, tmp_path, lambda n: {"age": 91.0 + n, "scanner": "C" if n else "A"})
    with pytest.raises(UserError) as refused:
        train(recipe, tmp_path)
    told = str(refused.value)
    assert "condition age is not a number from 40 to 90: cases case-0, case-1" in told
    assert "condition scanner is not one of A, B: cases case-1, case-2" in told
    assert "91" not in told


def test_a_model_is_held_to_the_conditions_it_was_trained_with() -> None:
    told = seen({"age": AGE, "scanner": SCANNER}, [case(age=50, scanner="skyra"), case(age=60)])
    refuse_other({"age": AGE, "scanner": SCANNER}, told)
    lenient = AGE.model_copy(update={"outside": "clip"})
    refuse_other({"age": lenient, "scanner": SCANNER}, told)  # the same tensors
    wider = Condition(kind="number", range=[30, 90])
    with pytest.raises(UserError, match="conditions age: the recipe says otherwise"):
        refuse_other({"age": wider, "scanner": SCANNER}, told)
    with pytest.raises(UserError, match="conditions scanner"):
        refuse_other({"age": AGE}, told)
    with pytest.raises(UserError, match="as trained: none"):
        refuse_other({"age": AGE}, {})
    wrong = list(wrong_conditions({"scanner": SCANNER}, {"scanner": 1.5}, told))
    assert wrong == ["condition scanner: no training case had this word; expected: skyra"]
    assert not list(wrong_conditions({"scanner": SCANNER}, {"scanner": 1.5}, None))
    secret = "a lesion in the left zone"
    (wrong_name,) = wrong_conditions({"age": AGE}, {secret: 1.0}, told)
    assert secret not in wrong_name
    assert "expected: age" in wrong_name


def test_encoded_refuses_what_it_cannot_take() -> None:
    assert encoded({"age": AGE}, case(age=90))["age"].tolist() == [1, 1]
    with pytest.raises(UserError, match="condition age is a word, not a number: case a"):
        encoded({"age": AGE}, case(age="old"))
    refuse_values({}, [case(age="old")])


def data_set(folder: Path, *conditions: Mapping[str, Any]) -> Manifest:
    cases = [case(f"c{n}", **told) for n, told in enumerate(conditions)]
    manifest = Manifest(folder, cases)
    folder.mkdir(exist_ok=True)
    manifest.write()
    return manifest


def test_the_check_tells_values_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(BOTH[0], name="base")
    manifest = data_set(tmp_path, {"age": 30, "scanner": "A"}, {"age": 50}, {"scanner": "Z"})
    found = [
        (f.code, f.case, f.where, f.message)
        for f in condition_findings(recipe.conditions, manifest)
    ]
    assert found == [
        ("condition.value", "c0", "age", "age is not a number from 40 to 90"),
        ("condition.counts", None, None, "train: age is known of 2 cases, missing in 1"),
        ("condition.value", "c2", "scanner", "scanner is not one of A, B"),
        ("condition.counts", None, None, "train: scanner is known of 2 cases, missing in 1"),
    ]
    with pytest.raises(UserError, match="age is not a number from 40 to 90: case c0"):
        check_training_conditions(recipe.conditions, manifest, name="base")
    lenient = tiny_recipe(
        BOTH[0],
        "conditions.age.outside=clip",
        "conditions.scanner.outside=missing",
        name="base",
    )
    counted = [f.message for f in condition_findings(lenient.conditions, manifest)]
    assert counted[0].endswith("missing in 1, 1 beyond its range, taken for its end")
    assert counted[1] == "train: scanner is known of 1 cases, missing in 2"
    check_training_conditions(lenient.conditions, manifest, name="base")
    said = capsys.readouterr()
    assert "2 of 3 training cases have no scanner" in said.out + said.err
    others = data_set(tmp_path / "none", {"psa": 3}, {})
    with pytest.raises(UserError) as refused:
        check_training_conditions(recipe.conditions, others, name="base")
    assert "none of the 2 training cases" in str(refused.value)
    assert "in this data set: psa" in str(refused.value)
