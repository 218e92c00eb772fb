"""CLIP's text encoder, with positions that may begin again behind the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxella_conditioners.text_encoder import TokenEncoder
from voxella_conditioners.text_folder import ModelFolder, identity, open_folder
from voxella_conditioners.text_models import (
    check_vocabulary,
    read_tokenizer,
    read_whole,
    unreadable,
)
from voxella_conditioners.text_settings import TextSettings

__all__ = ["load_clip", "repeat_positions"]

_TURNS = 2  # PathLDM's: 2 x 77 tokens
_KINDS = ("clip", "clip_text_model")


def load_clip(
    path: Path, settings: TextSettings, *, cyclic: bool, tokens_only: bool = False
) -> TokenEncoder:
    """Load the text part of a CLIP folder: last hidden states behind the final layer norm.

    Every token attends to those before it that are no padding: the causal mask and the mask of
    padding together, as in PathLDM. (Stable Diffusion does not mask padding.)

    Args:
        path: The folder.
        settings: How to run it.
        cyclic: Whether positions may be repeated, where ``max_tokens`` is more than there are.
        tokens_only: Read no weights; the encoder counts tokens and encodes nothing.

    Raises:
        UserError: When the folder is incomplete, of another kind or cannot be read, or
            ``max_tokens`` does not fit.
    """
    from transformers import CLIPTextModel
    from transformers.utils import logging

    # Its own bar would cut across the stage's, and is noise where there is no terminal.
    logging.disable_progress_bar()
    folder = open_folder(path, settings.name)
    kind = folder.config.get("model_type")
    if kind not in _KINDS:
        raise settings.error(
            f"{path} holds a model of type {kind}",
            expected=f"model_type {' or '.join(_KINDS)} in config.json",
            remedy="use the text encoder hf",
        )
    tokenizer = read_tokenizer(folder, settings)
    model = _outline(folder, settings)
    turns = _turns(settings, int(model.config.max_position_embeddings), cyclic=cyclic)
    check_vocabulary(folder, settings, tokenizer, model)
    if not tokens_only:
        model = read_whole(folder, settings, CLIPTextModel.from_pretrained)
    if turns > 1:
        repeat_positions(model, turns)
    decides = settings.identity() | ({"turns": turns} if turns > 1 else {})
    return TokenEncoder(
        model,
        tokenizer,
        max_tokens=settings.max_tokens,
        padding=settings.padding,
        batch_size=settings.batch_size,
        device=settings.place(),
        identity=identity(folder, decides, weights=not tokens_only),
    )


def repeat_positions(model: nn.Module, turns: int) -> None:
    """Let the positions of a ``CLIPTextModel`` begin again: 0 ... 76, 0 ... 76."""
    # transformers 4 has the embeddings one level deeper than transformers 5.
    embeddings: Any = getattr(model, "text_model", model).embeddings
    table = embeddings.position_embedding.weight.detach().repeat(turns, 1)
    rows, width = table.shape
    embeddings.position_embedding = nn.Embedding(rows, width, device=table.device)
    embeddings.position_embedding.weight = nn.Parameter(table)
    embeddings.position_ids = torch.arange(len(table), device=table.device)[None]


def _outline(folder: ModelFolder, settings: TextSettings) -> Any:  # noqa: ANN401 - untyped library
    """Return the text part without its weights: what can be checked before they are read."""
    from transformers import CLIPTextConfig, CLIPTextModel

    try:
        # Takes the text part's settings out of those of a whole CLIP.
        config = CLIPTextConfig.from_pretrained(folder.path, local_files_only=True)
        with torch.device("meta"):
            return CLIPTextModel(config).eval()
    except Exception as error:
        raise unreadable(folder, settings, "model", error) from error


def _turns(settings: TextSettings, positions: int, *, cyclic: bool) -> int:
    """Return how often the positions are run through.

    Raises:
        UserError: ``max_tokens`` is too many, or too few for begin, a token and end.
    """
    tokens, most = settings.max_tokens, positions * (_TURNS if cyclic else 1)
    if 3 <= tokens <= most:
        return -(-tokens // positions)
    more = f"text.encoder.cyclic=true (positions twice, up to {_TURNS * positions} tokens)"
    raise settings.error(
        f"max_tokens={tokens}, and the model has {positions} positions",
        expected=f"3 to {most}",
        remedy=f"--set text.max_tokens={most}"
        + (f", or --set {more}" if not cyclic and tokens <= _TURNS * positions else ""),
    )
