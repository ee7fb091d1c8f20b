"""Ludora teaches language models to act, by training LoRA adapters. See README.md."""

__version__ = "0.1.0"
__all__ = ["__version__"]
