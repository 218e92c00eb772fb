"""Every precision, ZeRO stage, offload and switch that is accepted trains what torch trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sharding_driver import BATCH, CASES, HELD_OUT, SEED, STEPS, Builder, Task

from voxella.engine import ema, runtime, sharding
from voxella.engine.order import DataOrder, SampleKey
from voxella.recipe.model import Optimizer

DRIVER = Path(__file__).parent / "sharding_driver.py"
# Gradients are some 1e-6 long, so that this clips every one of them.
CLIPPED = {"gradient_clipping": 1e-7}
HALF = {"torch_autocast": {"enabled": True, "dtype": "float16"}}
AUTOCAST = {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
CAST = {"bf16": {"enabled": True}}
PRECISIONS: dict[str, dict[str, Any]] = {"fp32": {}, "half": HALF, "auto": AUTOCAST, "cast": CAST}
# Six steps move a weight by 1e-3 or less each; measured differences are three to ten times smaller
# than these. The cast rounds the first weights, of up to 1, to 1 part in 256.
CLOSE = {"fp32": 1e-8, "half": 5e-6, "auto": 5e-5, "cast": 4e-3}
NORMS = {"fp32": 1e-6, "half": 2e-3, "auto": 1e-2, "cast": 3e-2}
CPU = {"device": "cpu"}
OFFLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    "1o": ("auto", {"stage": 1, "offload_optimizer": CPU}),
    "2o": ("cast", {"stage": 2, "offload_optimizer": CPU}),
    "3o": ("cast", {"stage": 3, "offload_optimizer": CPU}),
    "3p": ("half", {"stage": 3, "offload_param": CPU}),
    "3op": ("cast", {"stage": 3, "offload_optimizer": CPU, "offload_param": CPU}),
    "3op-exact": ("fp32", {"stage": 3, "offload_optimizer": CPU, "offload_param": CPU}),
}
# What one process does otherwise than two.
ALONE = ("half-1", "half-3", "spoilt-0", "spoilt-2", "cast-3op", "sent-0", "fp32-told")
ORDER = DataOrder(CASES, seed=SEED, batch_size=BATCH)
# The last case of the third step: on two processes it is the second one's. Two of these runs stop
# after it, and continue with the scale that it left.
SPOILT_STEP = 2
SPOILT = ORDER.step(SPOILT_STEP)[-1].case_id
Found = dict[str, dict[str, Any]]


def _plans() -> dict[str, dict[str, Any]]:
    plans: dict[str, dict[str, Any]] = {}
    for stage in range(4):
        zero = {"zero_optimization": {"stage": stage}}
        for name, block in PRECISIONS.items():
            if name != "fp32" or stage == 0:  # above it: switched
                plans[f"{name}-{stage}"] = {"block": {**zero, **block}}
        plans[f"sent-{stage}"] = {"block": {**zero, "communication_data_type": "bf16"}}
        plans[f"spoilt-{stage}"] = {"block": {**zero, **HALF}, "spoilt": [SPOILT]}
        plans[f"spoilt-{stage}"]["resume"] = stage in (0, 3)
    for stage in (0, 2):
        block = {"zero_optimization": {"stage": stage}, **HALF, "gradient_accumulation_steps": 2}
        plans[f"parts-{stage}"] = {"block": block}
    for stage in (1, 2, 3):
        plans[f"switched-{stage}"] = {"block": {"zero_optimization": _switched(stage)}}
    told = {"wall_clock_breakdown": True, "memory_breakdown": True}
    plans["fp32-told"] = {"block": {**told, "flops_profiler": {"enabled": True, "profile_step": 2}}}
    for place, (name, offloaded) in OFFLOADS.items():
        block = {"zero_optimization": offloaded, **PRECISIONS[name]}
        plans[f"{name}-{place}"] = {"block": block, "resume": place in ("1o", "3p", "3op")}
    return {name: {**plan, "block": {**CLIPPED, **plan["block"]}} for name, plan in plans.items()}


def _switched(stage: int) -> dict[str, Any]:
    """Every switch away from its default, every size small."""
    off = ["contiguous_gradients", "reduce_scatter", "use_multi_rank_bucket_allreduce"]
    off += ["allgather_partitions", "ignore_unused_parameters", "memory_efficient_linear"]
    return {
        "stage": stage,
        **dict.fromkeys(sharding._SWITCHES, True),
        **dict.fromkeys(off, False),
        "overlap_comm": stage < 3,
        **dict.fromkeys(sharding._SIZES, 20),
        **(sharding._PARTITIONED if stage == 3 else {"zero_hpz_partition_size": 1}),
    }


def _by_hand(*, skipped: int | None) -> dict[str, Any]:
    """Train in float32 with torch alone: its clipping, its AdamW."""
    task, settings = Task(), Optimizer(lr=1e-3)
    trained = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    average = {name: value.clone() for name, value in task.state_dict().items()}
    builder, norms, updates = Builder([], {}), [], 0
    for step in range(STEPS):
        optimizer.zero_grad()
        task(builder.make(ORDER.step(step)))["total"].backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, CLIPPED["gradient_clipping"])))
        if step == skipped:
            continue
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / STEPS)
        optimizer.step()
        updates += 1
        decay = min(0.5, (1 + updates) / (10 + updates))
        for name, value in task.state_dict().items():
            average[name].lerp_(value, 1 - decay)
    weights = {name: value.clone() for name, value in task.state_dict().items()}
    task.load_state_dict(average)
    held_out = task(builder.make([SampleKey(case, 0) for case in HELD_OUT]))["total"].item()
    return {"weights": weights, "average": average, "norms": norms, "validation": held_out}


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What every plan trains on 2 processes, and some on 1."""
    world = request.param
    folder = tmp_path_factory.mktemp(f"w{world}")
    plans = {name: plan for name, plan in _plans().items() if world > 1 or name in ALONE}
    (folder / "plans.json").write_text(json.dumps(plans))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world))
    command = [sys.executable, *(launcher if world > 1 else ()), str(DRIVER), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, cwd=DRIVER.parent, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: Found = torch.load(folder / "found.pt", weights_only=True)
    assert results.keys() == plans.keys()
    return results


def _furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_all_of_it_trains_what_torch_trains(found: Found) -> None:
    """Weights, averages, validation and norms, under every precision, stage, offload, switch."""
    exact = _by_hand(skipped=None)
    for name, run in found.items():
        first = name.split("-")[0]
        if first == "spoilt":
            continue
        kind = {"sent": "auto", "switched": "fp32", "parts": "half"}.get(first, first)
        for what in ("weights", "average"):
            assert _furthest(run[what], exact[what]) <= CLOSE[kind], (name, what)
        # In place it is rounded to what the layers hold.
        assert _furthest(run["present"], exact["average"]) <= max(CLOSE[kind], 1e-7), name
        norms = [line["grad_norm"] for line in run["log"]]
        assert norms == pytest.approx(exact["norms"], rel=NORMS[kind]), name
        measured = run["log"][-1]["validation"]
        assert measured == pytest.approx(exact["validation"], rel=NORMS[kind]), name
        low = {"half": "float16", "parts": "float16", "cast": "bfloat16", "auto": "bfloat16"}
        assert run["dtype"] == f"torch.{low.get(first, 'float32')}", name
        assert {line.get("skipped_steps", 0) for line in run["log"]} == {0}, name


def test_gradients_are_sent_in_the_dtype_named(found: Found) -> None:
    """Rounded on the way, under every stage, whatever this process trained before."""
    exact = _by_hand(skipped=None)["weights"]
    for name, run in found.items():
        if name.startswith("sent"):
            assert _furthest(run["weights"], exact) > CLOSE["fp32"], name


def test_an_overflow_is_skipped_and_recovered_from(found: Found) -> None:
    """On all processes, though one alone sees it; the rate goes on, the average waits."""
    exact = _by_hand(skipped=SPOILT_STEP)
    spoilt = {name: run for name, run in found.items() if name.startswith("spoilt")}
    assert spoilt
    for name, run in spoilt.items():
        for what in ("weights", "average"):
            assert _furthest(run[what], exact[what]) <= CLOSE["half"], (name, what)
        assert [line["skipped_steps"] for line in run["log"]] == [0, 0, 1, 1, 1, 1], name
        assert [line["loss_scale"] for line in run["log"]] == [2**16] * 2 + [2**15] * 4, name
        assert "grad_norm" not in run["log"][SPOILT_STEP]
        for step in set(range(STEPS)) - {SPOILT_STEP}:
            norm = run["log"][step]["grad_norm"]
            assert norm == pytest.approx(exact["norms"][step], rel=NORMS["half"]), (name, step)
        rates = [line["lr"] for line in run["log"]]
        assert rates == pytest.approx([1e-3 * (1 - step / STEPS) for step in range(STEPS)]), name


def test_every_tensor_goes_where_the_collective_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offloaded partitions lie on the host, which NCCL cannot reach."""
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "nccl")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert runtime.collective_device() == torch.device("cuda", 3)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    assert runtime.collective_device() == torch.device("cpu")

    # "meta" stands for a GPU here.
    reached: list[str] = []
    monkeypatch.setattr(ema, "collective_device", lambda: torch.device("meta"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        torch.distributed,
        "all_gather",
        lambda parts, part: reached.extend(t.device.type for t in (*parts, part)),
    )
    parameter = torch.nn.Parameter(torch.empty(0))
    parameter.ds_shape = torch.Size((3, 2))  # type: ignore[attr-defined]  # as DeepSpeed sets it
    whole = ema.full_tensor(parameter, torch.ones(3))
    assert reached == ["meta"] * 3
    assert whole.shape == (3, 2)
