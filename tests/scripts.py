"""Scripts of recipes/ as modules: their folders are no packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent


def load_recipe(path: str) -> ModuleType:
    """recipes/PATH, imported under a name of its own."""
    name = "recipe_" + path.removesuffix(".py").replace("/", "_")
    specification = importlib.util.spec_from_file_location(name, ROOT / "recipes" / path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module
