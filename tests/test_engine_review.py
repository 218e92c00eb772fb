"""What the engine must not do: train on averaged weights, wait for a GPU, go separate ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_engine_batches import builder_of
from test_engine_training import launch
from tiny_run import encoded_run, tiny_recipe

from voxella.cache.text import TextCache
from voxella.engine.log import NonFiniteLossError
from voxella.engine.order import SampleKey
from voxella.engine.runtime import broadcast_object, gather_state
from voxella.engine.settings import deepspeed_config
from voxella.engine.train import _seed_layers
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.ldm.build import build_model
from voxella.ldm.monitor import Monitor
from voxella.ldm.train import train
from voxella.ranks import Ranks


def scalars(run: Path, name: str) -> list[float]:
    lines = (run / "train" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)[name] for line in lines]


@pytest.mark.slow
def test_under_zero_3_measuring_the_average_changes_nothing_that_is_trained(tmp_path: Path) -> None:
    """On 2 processes: gathered weights must not outlive the average they were gathered from."""
    exported, found = "whole-3/model/model.safetensors", []
    for every in (0, 1):
        launch(tmp_path / str(every), 2, "3", "whole", f"train.validate_every={every}")
        log = scalars(tmp_path / str(every) / "whole-3", "loss/total")
        found.append((log, sha256_file(tmp_path / str(every) / exported)))
    assert found[0] == found[1]


def test_a_logged_gradient_norm_is_that_of_its_own_step(tmp_path: Path) -> None:
    """DeepSpeed's under ZeRO 2, the one measured on whole gradients under stage 0."""
    norms = {}
    for stage in (0, 2):
        recipe = tiny_recipe(f"deepspeed.zero_optimization.stage={stage}", "train.log_every=1")
        encoded_run(recipe, tmp_path / str(stage))
        train(recipe, tmp_path / str(stage))
        norms[stage] = scalars(tmp_path / str(stage), "grad_norm")
    assert len(norms[0]) == 4
    assert norms[2] == pytest.approx(norms[0], rel=1e-5)


def test_counting_reports_reads_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe()
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    read: list[str] = []
    genuine = TextCache.read

    def reading(cache: TextCache, case_id: str, name: str | None) -> tuple[torch.Tensor, bool]:
        read.append(case_id)
        return genuine(cache, case_id, name)

    monkeypatch.setattr(TextCache, "read", reading)
    everyone = [SampleKey(f"case-{index}", 0) for index in range(6)]  # 2 and 5 have no report
    batch = builder.make(everyone[:3], global_keys=everyone)
    assert read == ["case-0", "case-1", "case-2"]
    assert batch.has_report.tolist() == [True, True, False]
    assert batch.class_count is not None
    assert float(batch.class_count) == 4 * 3 / 6


def test_a_non_finite_loss_of_any_micro_batch_stops_the_step_once(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    monitor = Monitor(Ranks(0, 0, 1), recipe.diffusion.steps, class_weight=1.0)
    for pair in (("case-0", "case-1"), ("case-3", "case-4")):
        per_case = torch.tensor([1.0, float("inf") if "case-4" in pair else 2.0])
        batch = builder.make([SampleKey(case, 0) for case in pair])
        monitor.add(batch, {"reconstruction_per_case": per_case})
    with pytest.raises(NonFiniteLossError, match=r"step 7 is not finite, at cases case-4$"):
        monitor.check(7)
    monitor.add(batch, {"reconstruction_per_case": torch.ones(2)})
    monitor.check(8)


def test_any_whole_number_is_a_seed() -> None:
    _seed_layers(2**70, 10**6, 3)
    assert sum(p.numel() for p in build_model(tiny_recipe(f"seed={2**40}")).parameters()) > 0


def test_every_name_of_a_tied_weight_is_exported() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    module[1].weight = module[0].weight
    state = gather_state(module, keep=True, whole=lambda parameter: parameter)
    assert state.keys() == module.state_dict().keys()
    assert torch.equal(state["0.weight"], state["1.weight"])


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"stage3_param_persistence_threshold": 100000}, "stage3_param_persistence_threshold"),
        ({"zero_hpz_partition_size": 8}, "zero_hpz_partition_size"),
        ({"offload_param": {"device": "nvme"}}, r"offload_param\.device is 'nvme'"),
    ],
)
def test_zero_3_refuses_weights_beside_their_partition(more: dict[str, object], named: str) -> None:
    block = {"train_batch_size": 1, "zero_optimization": {"stage": 3, **more}}
    with pytest.raises(UserError, match=named):
        deepspeed_config(block, world=1, device=None)
    block["zero_optimization"] = {"stage": 2, **more}
    if "offload_param" in more:
        with pytest.raises(UserError, match=named):
            deepspeed_config(block, world=1, device=None)
    else:
        deepspeed_config(block, world=1, device=None)


def test_alone_a_process_agrees_with_itself() -> None:
    assert broadcast_object((3, "x")) == (3, "x")
