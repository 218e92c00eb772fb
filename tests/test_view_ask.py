"""Section "Ask" over HTTP: a real model behind it, its numbers those of voxella.Generator."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from view_model import MOST_TOKENS, client, post, text_model

from voxella import Generator
from voxella.errors import UserError
from voxella.testing.small_models import SMALL_MODELS, small_model
from voxella.view.ask import ask_section
from voxella.view.asking import AskedModel
from voxella.view.examples import examples_of_file
from voxella.view.jobs import Jobs

SECRET = "Secretmarker in the left peripheral zone."
LONG = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen six"
)
ASKED: dict[str, Any] = {
    "report": SECRET, "label": "positive", "conditions": {"age": 63}, "seed": 5, "steps": 3,
    "guidance": 1.5, "count": 2,
}  # fmt: skip
EXAMPLE = {"title": "a1", "report": "Made up.", "label": "positive", "conditions": {}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AskedModel:
    return AskedModel(text_model(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "saved"


@pytest.fixture
def browser(model: AskedModel, out: Path) -> Iterator[TestClient]:
    jobs = Jobs(model.make)
    yield client([ask_section(model, jobs, [EXAMPLE], out)])
    jobs.end()


def follow(browser: TestClient, number: int) -> list[dict[str, Any]]:
    """Return what the stream says until it ends."""
    answered = browser.get(f"/api/ask/jobs/{number}/events")
    assert answered.headers["content-type"].startswith("text/event-stream")
    lines = answered.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def volume(data: bytes) -> Any:
    return nib.Nifti1Image.from_bytes(data)


def test_the_form_is_told_what_the_model_takes(browser: TestClient) -> None:
    told = browser.get("/api/ask/model").json()
    assert told["classes"] == ["negative", "positive"]
    (age,) = told["conditions"]
    assert (age["name"], age["kind"], age["range"]) == ("age", "number", [40, 90])
    assert (told["steps"], told["most_tokens"], told["picture"]) == (4, MOST_TOKENS, False)
    assert told["examples"] == [EXAMPLE]


def test_it_makes_the_generators_volumes_and_tells_its_steps(
    browser: TestClient, model: AskedModel
) -> None:
    added = post(browser, "/api/ask/jobs", ASKED)
    assert added.status_code == 202
    number = added.json()["number"]
    told = follow(browser, number)
    assert told[-1]["state"] == "done"
    assert (told[-1]["done"], told[-1]["steps"]) == (6, 6)  # a batch of each image
    again = Generator.open(model.generator._model, device="cpu").generate(**ASKED)
    for place, image in enumerate(again):
        answered = browser.get(f"/api/ask/jobs/{number}/images/{place}/t2w.nii")
        shown = volume(answered.content)
        assert np.array_equal(shown.get_fdata(dtype=np.float32), image.array[0])
        assert np.allclose(shown.affine, image.affine)
    picture = browser.get(f"/api/ask/jobs/{number}/images/0/t2w.png")
    assert Image.open(io.BytesIO(picture.content)).width >= 256
    first, second = again
    apart = browser.get(f"/api/ask/difference/{number}/0/{number}/1/t2w.nii")
    expected = np.abs(second.array[0] - first.array[0])
    assert np.array_equal(volume(apart.content).get_fdata(dtype=np.float32), expected)
    # The text head alone, before anything is generated, says the same.
    said = post(browser, "/api/ask/text", {k: ASKED[k] for k in ("report", "label", "conditions")})
    own = model.generator.text_head(report=SECRET, label="positive", conditions={"age": 63})
    assert said.json()["head"] == pytest.approx(own)


def test_the_head_alone_says_what_sampling_says(model: AskedModel) -> None:
    asked: dict[str, Any] = {"report": SECRET, "label": "negative", "conditions": {"age": 50}}
    (image,) = model.generator.generate(**asked)
    said = model.generator.text_head(**asked)
    assert said == pytest.approx(image.provenance["predicted_probabilities"], abs=1e-5)


def test_what_is_cut_is_the_text_beyond_the_tokens(browser: TestClient, model: AskedModel) -> None:
    short = post(browser, "/api/ask/text", {"report": "one two"}).json()["tokens"]
    assert (short["cut"], short["cut_characters"], short["most"]) == ("", 0, MOST_TOKENS)
    told = post(browser, "/api/ask/text", {"report": LONG}).json()["tokens"]
    assert told["tokens"] > MOST_TOKENS
    assert told["end"] == "end"
    assert told["cut"]
    assert LONG.endswith(told["cut"])
    kept = LONG.removesuffix(told["cut"])
    # The encoder's own truncation is the truth: each of these words is one token, and without those
    # that are cut its features are the same.
    from voxella.cache.text_encoder import build_text_encoder

    encoder = build_text_encoder(model.generator.recipe.text)  # type: ignore[arg-type]
    whole, part = (encoder.encode([text])[0] for text in (LONG, kept))
    assert whole.shape == part.shape
    assert np.allclose(whole, part, atol=1e-5)
    assert encoder.token_counts([kept])[0] <= MOST_TOKENS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": "perhaps"}, "label is none of negative, positive"),
        ({"conditions": {"age": 200}}, "age"),
        ({"conditions": {"weight": 80}}, "a name that the recipe has not; expected: age"),
        ({"report": "\0"}, "no text"),
    ],
)
def test_wrong_values_are_sentences(browser: TestClient, change: dict[str, Any], told: str) -> None:
    number = post(browser, "/api/ask/jobs", {**ASKED, **change}).json()["number"]
    last = follow(browser, number)[-1]
    assert last["state"] == "failed"
    assert told in last["problem"]
    assert "Secretmarker" not in last["problem"]


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"steps": 1001}, {"count": 17}, {"count": 0}, {"seed": -1}, {"guidance": -1},
     {"report": "x" * 20_001}, {"more": 1}, {"steps": "Secretmarker"}, {"conditions": {"age": []}}],
)  # fmt: skip
def test_requests_out_of_bounds_are_refused(browser: TestClient, change: dict[str, Any]) -> None:
    answered = post(browser, "/api/ask/jobs", {**ASKED, **change})
    assert answered.status_code == 422
    assert answered.json()["problem"].startswith("The request cannot be read: ")
    assert "Secretmarker" not in answered.text
    assert browser.get("/api/ask/jobs").json() == []


def test_what_is_no_json_is_refused(browser: TestClient) -> None:
    answered = browser.post(
        "/api/ask/jobs", content=SECRET, headers={"origin": "http://127.0.0.1:4711"}
    )
    assert answered.status_code == 422
    assert "Secretmarker" not in answered.text


def test_nothing_is_written_before_save_and_the_text_only_where_asked(
    browser: TestClient, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    number = post(browser, "/api/ask/jobs", ASKED).json()["number"]
    follow(browser, number)
    assert not out.exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    saved = post(browser, f"/api/ask/jobs/{number}/save", {"with_text": False}).json()["folder"]
    folder = out.parent / saved
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        f"generated-s00{place}{end}" for place in (0, 1) for end in (".json", "_t2w.nii.gz")
    ]
    assert all(b"Secretmarker" not in path.read_bytes() for path in folder.iterdir())
    again = post(browser, f"/api/ask/jobs/{number}/save", {"with_text": True}).json()["folder"]
    assert (out.parent / again / "report.txt").read_text() == SECRET


def test_a_reload_finds_requests_and_their_texts_in_memory(browser: TestClient) -> None:
    number = post(browser, "/api/ask/jobs", {**ASKED, "count": 1}).json()["number"]
    follow(browser, number)
    (found,) = browser.get("/api/ask/jobs").json()
    assert found["state"] == "done"
    assert found["asked"]["report"] == SECRET
    assert found["asked"]["seed"] == 5


@pytest.mark.parametrize(
    "path", ["jobs/99/events", "jobs/99/images/0/t2w.nii", "difference/99/0/98/0/t2w.nii"]
)
def test_unknown_requests_are_sentences(browser: TestClient, path: str) -> None:
    answered = browser.get(f"/api/ask/{path}")
    assert answered.status_code == 404
    assert "is not known" in answered.json()["problem"]


def test_no_address_names_a_file(browser: TestClient) -> None:
    number = post(browser, "/api/ask/jobs", {**ASKED, "count": 1}).json()["number"]
    follow(browser, number)
    for name in ("..%2f..%2fconfig.json", "t2w.json", "adc.nii", "..", "%2fetc%2fpasswd.nii"):
        assert browser.get(f"/api/ask/jobs/{number}/images/0/{name}").status_code == 404
    assert browser.get(f"/api/ask/jobs/{number}/images/7/t2w.nii").status_code == 404


def test_the_head_never_waits_for_a_generation(model: AskedModel) -> None:
    with model._device:
        assert model.head("a", None, {}).why == "busy"


def test_a_model_of_pictures_without_text(tmp_path: Path) -> None:
    model = AskedModel(small_model(tmp_path, SMALL_MODELS["tile"]), device="cpu")
    jobs = Jobs(model.make)
    browser = client([ask_section(model, jobs, [], tmp_path / "saved")])
    told = browser.get("/api/ask/model").json()
    assert (told["picture"], told["reads_text"]) == (True, False)
    asked = {"seed": 0, "steps": 2, "guidance": 1.0, "count": 1, "label": "low"}
    number = post(browser, "/api/ask/jobs", asked).json()["number"]
    assert follow(browser, number)[-1]["state"] == "done"
    picture = browser.get(f"/api/ask/jobs/{number}/images/0/he.png")
    assert Image.open(io.BytesIO(picture.content)).mode == "RGB"
    assert post(browser, "/api/ask/text", {"report": ""}).json()["tokens"] is None
    jobs.end()


def test_examples_are_read_from_a_file_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text('{"id": "a1", "report": "Made up.", "label": "positive"}\n')
    assert examples_of_file(path) == [EXAMPLE]
    path.write_text('{"id": "a1", "reprt": "Secretmarker"}\n')
    with pytest.raises(UserError) as refused:
        examples_of_file(path)
    assert "Secretmarker" not in str(refused.value)
