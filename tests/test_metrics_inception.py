"""Inception-v3 of pytorch-fid: its names, its two ways of pooling, and its numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from inception_weights import HEAD, inception_file, inception_state, picture
from PIL import Image
from tiny_run import REPOSITORY
from torch import Tensor

from voxella.cli import main
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.imaging.volume import read_image
from voxella.metrics.features.inception import Inception, inception
from voxella.metrics.features.inception_blocks import BlockA, BlockC, BlockE, Convolution
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Source

# Of `inception_v3(num_classes=1008, aux_logits=False)` of torchvision 0.29.1, which pytorch-fid
# 0.3.0 loads its file into without allowing for a difference: a line for each tensor but the
# counters, "NAME SHAPE", sorted.
RELEASED = "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"
# Features of `picture()` by pytorch-fid 0.3.0's own InceptionV3 with `inception_state()`.
PLACES = (0, 1, 2, 3, 500, 1000, 1500, 2000)
FEATURES = (0.0107733, 3.9515121, 0.0, 1.0983557, 1.4041665, 1.3339766, 0.00027367, 0.5347928)
MEAN, DEVIATION = 0.3814674, 0.5762563


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inception_file(tmp_path_factory.mktemp("inception"))


def test_names_shapes_and_sizes_are_the_released_ones() -> None:
    with torch.device("meta"):
        ours = Inception()
    shapes = {name: tuple(t.shape) for name, t in ours.state_dict().items()} | HEAD
    lines = [f"{n} {shape}" for n, shape in sorted(shapes.items()) if "num_batches" not in n]
    assert len(lines) == 472
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == RELEASED
    # torchvision's own count for 1008 classes without the auxiliary head, and without the last.
    features = sum(parameter.numel() for parameter in ours.parameters())
    assert features == 21_785_568
    assert features + 1008 * 2049 == 23_850_960


def released_lines(state: dict[str, Tensor]) -> str:
    """Say which tensors a file has, as the list behind RELEASED does."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))


def test_the_source_gives_every_released_tensor_its_place(weights: Path, tmp_path: Path) -> None:
    held = torch.load(weights, weights_only=True)
    assert hashlib.sha256(released_lines(held).encode()).hexdigest() == RELEASED
    source: Source = registry.build("sources", Component(name="inception"))
    assert source.parts == {"features"}
    found = source.read(weights).parts["features"]
    body = {name: tensor for name, tensor in held.items() if name not in HEAD}
    assert {name for name in found if "num_batches" not in name} == body.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in body.items())
    # torchvision's own file has a second head, and is not this network's.
    torch.save(held | {"AuxLogits.fc.weight": torch.ones(1000, 768)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"1 unknown: AuxLogits\.fc\.weight"):
        source.read(tmp_path / "other.pth")


def test_a_converted_file_is_the_same_network(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(REPOSITORY / "recipes" / "pathldm" / "pathldm.yaml")
    out = tmp_path / "out"
    command = ["convert", "inception", str(weights), "--recipe", recipe, "--profile", "smoke"]
    assert main([*command, "--out", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"evaluate.inception={out / 'features.safetensors'}" in told
    image = torch.rand(3, 40, 56, 1, generator=torch.Generator().manual_seed(0))
    pair = [inception(path).features(image) for path in (weights, out / "features.safetensors")]
    assert torch.equal(*pair)
    assert pair[0].std() > 0.1


def test_a_picture_from_its_file_has_the_features_of_pytorch_fid(
    weights: Path, tmp_path: Path
) -> None:
    Image.fromarray(picture()).save(tmp_path / "picture.png")
    image = read_image(tmp_path / "picture.png")
    network = inception(weights)
    (found,) = network.features(torch.from_numpy(image.array / image.white))
    assert found.shape == (network.dim,) == (2048,)
    expected = torch.tensor(FEATURES)
    torch.testing.assert_close(found[list(PLACES)], expected, rtol=1e-4, atol=1e-6)
    assert found.mean().item() == pytest.approx(MEAN, rel=1e-4)
    assert found.std().item() == pytest.approx(DEVIATION, rel=1e-4)
    # Turned by half it is another picture, and the features say so.
    (turned,) = network.features(torch.from_numpy(image.array / image.white).flip(1, 2))
    assert not torch.allclose(turned[list(PLACES)], expected, rtol=1e-2)


def test_the_file_decides_the_fingerprint(weights: Path, tmp_path: Path) -> None:
    network = inception(weights)
    assert network.comparable_with_paper
    assert (network.name, network.weights_sha256) == ("inception-v3-fid", sha256_file(weights))
    state = torch.load(weights, weights_only=True)
    state["Mixed_7c.branch_pool.bn.bias"] += 1e-3
    torch.save(state, tmp_path / "other.pth")
    assert inception(tmp_path / "other.pth").fingerprint != network.fingerprint


def passing(convolution: Convolution, channels: int) -> None:
    """Make a 1 x 1 convolution hand its first channels on."""
    convolution.conv.weight.data.zero_()
    for channel in range(channels):
        convolution.conv.weight.data[channel, channel] = 1.0
    convolution.bn.eps = 0.0


@pytest.mark.parametrize(
    ("block", "channels"),
    [(BlockA(4, 4), 4), (BlockC(4, 4), 4), (BlockE(4, "average"), 4)],
    ids=["A", "C", "E"],
)
def test_an_average_at_an_edge_is_of_the_values_that_there_are(
    block: BlockA | BlockC | BlockE, channels: int
) -> None:
    """With padding counted, as torchvision does, ones would be 4/9 in a corner."""
    passing(block.branch_pool, channels)
    pooled = last_channels(block.eval(), torch.ones(1, 4, 5, 6))[:, :channels]
    torch.testing.assert_close(pooled, torch.ones(1, channels, 5, 6))
    ramp = torch.arange(4.0).expand(1, 4, 3, 4)
    pooled = last_channels(block, ramp)[0, 0, 0]
    torch.testing.assert_close(pooled, torch.tensor([0.5, 1.0, 2.0, 2.5]))


def test_the_last_block_takes_the_maximum() -> None:
    block = BlockE(4, "maximum").eval()
    passing(block.branch_pool, 4)
    point = torch.zeros(1, 4, 5, 5)
    point[..., 2, 1] = 9.0
    expected = torch.zeros(5, 5)
    expected[1:4, 0:3] = 9.0
    torch.testing.assert_close(last_channels(block, point)[0, 0], expected)
    with torch.device("meta"):
        network = Inception()
    assert (network.Mixed_7b.pooling, network.Mixed_7c.pooling) == ("average", "maximum")


def last_channels(block: BlockA | BlockC | BlockE, x: Tensor) -> Tensor:
    """Return what the pooling branch adds, which stands last."""
    width = block.branch_pool.conv.out_channels
    with torch.no_grad():
        found: Tensor = block(x)
    return found[:, -width:]


def test_other_files_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pth does not exist"):
        inception(tmp_path / "absent.pth")
    # torchvision's own file has an auxiliary head, for another pooling.
    state = inception_state() | {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1)}
    torch.save(state, tmp_path / "torchvision.pth")
    with pytest.raises(UserError, match="does not hold pytorch-fid's Inception-v3") as refused:
        inception(tmp_path / "torchvision.pth")
    assert "1 unknown: AuxLogits.conv0.conv.weight" in str(refused.value)
