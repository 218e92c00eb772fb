"""The model card: ``README.md`` of a model folder, with a head that model hubs read."""

from __future__ import annotations

from voxella.ldm.model_card.card import CARD, renew_card, write_card

__all__ = ["CARD", "renew_card", "write_card"]
