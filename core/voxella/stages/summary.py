"""What a run left and where, said at its end."""

from __future__ import annotations

from voxella.engine.ranks import Ranks
from voxella.progress import say
from voxella.stages.folders import Folders

__all__ = ["summarise"]


def summarise(folders: Folders, until: str) -> None:
    """Name every result that is there; on rank 0 only."""
    if not Ranks.from_environment().is_main:
        return
    results = {
        "data set": folders.dataset / "manifest.jsonl",
        "prepared cases": folders.prepared / "manifest.jsonl",
        "autoencoder": folders.autoencoder / "autoencoder.json",
        "reconstruction": folders.autoencoder / "reconstruction.png",
        "latents": folders.latents / "index.json",
        "text features": folders.text / "index.json",
        "losses": folders.run / "train" / "log.jsonl",
        "TensorBoard": folders.run / "tensorboard",
        "model": folders.model / "model.json",
        "volumes": folders.samples / "manifest.jsonl",
        "montage": folders.samples / "montage.png",
        "metrics": folders.evaluation / "metrics.json",
    }
    say(f"done: {until}")
    for name, path in results.items():
        if path.exists():
            say(f"  {name:15} {path}")
