"""Feature networks on small weights in the released formats, against other implementations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import ResNet, ResNetBottleneck, resnet50
from torch import Tensor, nn
from torch.nn import functional

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.metrics.features.medicalnet import medicalnet, medicalnet_resnet
from voxella.metrics.features.network import PLANES, FeatureNetwork, slices
from voxella.metrics.features.radimagenet import KerasResNet, radimagenet
from voxella.metrics.features.random_network import random_networks

SMALL_LAYERS, SMALL_WIDTH = (2, 1, 2, 1), 4
State = dict[str, Tensor]


def randomised(module: nn.Module) -> nn.Module:
    """Give every tensor other values, running statistics too, so that none can be left out."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            fresh = torch.randn(tensor.shape, generator=generator) * 0.2
            tensor.copy_(
                fresh.abs() + 0.5
                if "var" in name or ("weight" in name and tensor.dim() == 1)
                else fresh
            )
    return module


def volume(*size: int) -> Tensor:
    return torch.rand((1, *size), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def medicalnet_file(tmp_path: Path) -> Path:
    """MedicalNet's format: saved in training with data parallelism, before torch 1.0's counters."""
    state = randomised(medicalnet_resnet(SMALL_LAYERS, SMALL_WIDTH)).state_dict()
    released = {f"module.{n}": t for n, t in state.items() if "num_batches" not in n}
    path = tmp_path / "resnet_50_23dataset.pth"
    torch.save({"state_dict": released}, path)
    return path


@pytest.fixture
def radimagenet_file(tmp_path: Path) -> Path:
    path = tmp_path / "RadImageNet-ResNet50_notop.pth"
    torch.save(randomised(KerasResNet(SMALL_LAYERS, SMALL_WIDTH)).state_dict(), path)
    return path


def normalised(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    mean, variance, scale, shift = (
        state[f"{name}.{part}"].reshape(1, -1, *[1] * (x.dim() - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + eps).sqrt() * scale + shift


def medicalnet_by_hand(x: Tensor, state: State, layers: Sequence[int]) -> Tensor:
    """The network of the released `models/resnet.py`, with its strides and dilations."""
    x = functional.conv3d(x, state["conv1.weight"], stride=2, padding=3)
    x = functional.max_pool3d(normalised(x, state, "bn1", 1e-5).relu(), 3, stride=2, padding=1)
    for stage, (blocks, stride, dilation) in enumerate(
        zip(layers, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), start=1
    ):
        for block in range(blocks):
            at, step = f"layer{stage}.{block}", stride if block == 0 else 1
            y = functional.conv3d(x, state[f"{at}.conv1.weight"])
            y = normalised(y, state, f"{at}.bn1", 1e-5).relu()
            y = functional.conv3d(
                y, state[f"{at}.conv2.weight"], stride=step, padding=dilation, dilation=dilation
            )
            y = normalised(y, state, f"{at}.bn2", 1e-5).relu()
            y = normalised(
                functional.conv3d(y, state[f"{at}.conv3.weight"]), state, f"{at}.bn3", 1e-5
            )
            if block == 0:
                x = functional.conv3d(x, state[f"{at}.downsample.0.weight"], stride=step)
                x = normalised(x, state, f"{at}.downsample.1", 1e-5)
            x = (x + y).relu()
    return x.mean(dim=(2, 3, 4))


def test_medicalnet_is_the_released_network(medicalnet_file: Path) -> None:
    network = medicalnet(medicalnet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    released = torch.load(medicalnet_file, weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): tensor for name, tensor in released.items()}
    image = volume(40, 36, 28)
    found = network.features(image)
    assert found.shape == (1, network.dim) == (1, 128)
    torch.testing.assert_close(found, medicalnet_by_hand(image[None], state, SMALL_LAYERS))


def test_monais_own_strides_would_load_the_file_and_say_something_else(
    medicalnet_file: Path,
) -> None:
    plain = ResNet(
        ResNetBottleneck,
        list(SMALL_LAYERS),
        [4, 8, 16, 32],
        n_input_channels=1,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    )
    state = torch.load(medicalnet_file, weights_only=True)["state_dict"]
    plain.load_state_dict({n.removeprefix("module."): t for n, t in state.items()}, strict=False)
    image = volume(40, 36, 28)
    network = medicalnet(medicalnet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    assert not torch.allclose(plain.eval()(image[None]), network.features(image), rtol=1e-2)


def test_the_full_size_has_the_released_names_and_shapes() -> None:
    with torch.device("meta"):
        ours = medicalnet_resnet().state_dict()
        theirs = resnet50(
            n_input_channels=1, feed_forward=False, shortcut_type="B", bias_downsample=False
        ).state_dict()
        keras = KerasResNet()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    # What Keras' own summary says of ResNet50(include_top=False).
    counted = [t.numel() for n, t in keras.state_dict().items() if "num_batches" not in n]
    assert sum(counted) == 23_587_712
    assert sum(p.numel() for p in keras.parameters()) == 23_534_592


def test_only_the_papers_sizes_are_comparable_with_it(medicalnet_file: Path) -> None:
    network = medicalnet(medicalnet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    assert not network.comparable_with_paper
    assert network.name == "medicalnet-resnet50-23datasets"
    assert network.weights_sha256 == sha256_file(medicalnet_file)
    other = torch.load(medicalnet_file, weights_only=True)
    other["state_dict"]["module.conv1.weight"] += 1e-3
    torch.save(other, medicalnet_file)
    again = medicalnet(medicalnet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    assert again.fingerprint != network.fingerprint
    assert again.weights_sha256 == sha256_file(medicalnet_file)


def keras_by_hand(x: Tensor, state: State, layers: Sequence[int]) -> Tensor:
    """Keras' ResNet with explicit zero padding before convolution and pooling, as Keras has it."""

    def convolved(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = functional.pad(x, (padding,) * 4)
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride)

    x = normalised(convolved(x, "conv1", 2, 3), state, "bn1", 1.001e-5).relu()
    x = functional.max_pool2d(functional.pad(x, (1,) * 4), 3, stride=2)
    for stage, blocks in enumerate(layers, start=1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = normalised(convolved(x, f"{at}.conv1", stride), state, f"{at}.bn1", 1.001e-5).relu()
            y = convolved(y, f"{at}.conv2", padding=1)
            y = normalised(y, state, f"{at}.bn2", 1.001e-5).relu()
            y = normalised(convolved(y, f"{at}.conv3"), state, f"{at}.bn3", 1.001e-5)
            if block == 0:
                x = convolved(x, f"{at}.downsample.0", stride)
                x = normalised(x, state, f"{at}.downsample.1", 1.001e-5)
            x = (x + y).relu()
    return x.mean(dim=(2, 3))


def test_radimagenet_is_keras_resnet_on_every_slice_of_every_plane(radimagenet_file: Path) -> None:
    networks = radimagenet(radimagenet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    state = torch.load(radimagenet_file, weights_only=True)
    image = volume(40, 36, 5)
    assert [network.name for network in networks] == [f"radimagenet-resnet50-{p}" for p in PLANES]
    by_axis = [image[0], image[0].permute(1, 0, 2), image[0].permute(2, 0, 1)]
    for network, planes in zip(networks, by_axis, strict=True):
        found = network.features(image)
        assert found.shape == (len(planes), 128)
        expected = keras_by_hand(planes[:, None].expand(-1, 3, -1, -1), state, SMALL_LAYERS)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert len({network.fingerprint for network in networks}) == 3


def test_slices_run_along_the_planes_axis() -> None:
    image = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    assert [tuple(slices(image, plane).shape) for plane in PLANES] == [
        (2, 1, 3, 4),
        (3, 1, 2, 4),
        (4, 1, 2, 3),
    ]
    torch.testing.assert_close(slices(image, "axial")[3, 0], image[0, :, :, 3])


def test_the_random_network_is_the_same_for_ever_and_never_the_papers() -> None:
    networks: Sequence[FeatureNetwork] = random_networks()
    assert [network.name for network in networks] == [
        "random-seed0",
        *(f"random-seed0-{plane}" for plane in PLANES),
    ]
    assert not any(network.comparable_with_paper for network in networks)
    # Pinned when written: other weights under this name would make old and new numbers look alike.
    assert [network.fingerprint[:12] for network in networks] == [
        "36c3bc2d84bf",
        "16079f4c375f",
        "fdb714e1673a",
        "81d7a9be4a07",
    ]
    image = volume(12, 10, 8)
    assert [tuple(network.features(image).shape) for network in networks] == [
        (1, 16),
        (12, 16),
        (10, 16),
        (8, 16),
    ]
    found = np.concatenate([networks[0].features(volume(12, 10, 8) * s) for s in (0.2, 0.6, 1.0)])
    assert (found.std(axis=0) > 0).all()


def test_a_volume_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="a volume"):
        random_networks()[0].features(torch.rand(8, 8, 8))


def test_files_that_hold_something_else_are_refused(
    tmp_path: Path, medicalnet_file: Path, radimagenet_file: Path
) -> None:
    with pytest.raises(UserError, match=r"absent\.pth does not exist"):
        medicalnet(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="does not hold MedicalNet's ResNet-50") as refused:
        medicalnet(radimagenet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    assert "unknown: conv1.bias" in str(refused.value)
    assert "of another shape: conv1.weight (4, 3, 7, 7) instead of (4, 1, 7, 7, 7)" in str(
        refused.value
    )
    with pytest.raises(UserError, match=r"missing: conv1\.bias"):
        radimagenet(medicalnet_file, layers=SMALL_LAYERS, width=SMALL_WIDTH)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="cannot be read as weights"):
        medicalnet(broken)
    empty = tmp_path / "empty.pth"
    torch.save({"epoch": 3}, empty)
    with pytest.raises(UserError, match="holds no weights"):
        medicalnet(empty)
