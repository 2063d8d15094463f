"""What unit tests of the server need of models."""

from __future__ import annotations

from tests.served import contract_models, launch

__all__ = ["contract_models", "launch"]
