"""Who must not know whom, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.glob("asr/**/*.py"))
}
RECIPES = sorted(ROOT.glob("recipes/**/*.py"))
HEADS = sorted(name for name in MODULES if name.startswith("asr.commands."))
TORCHLESS = ["asr", "asr.cli", *HEADS] + [
    f"asr.{name}"
    for name in (
        *("transcript", "formats", "manifest", "text", "errors", "config", "arguments"),
        *("spoken", "numerals", "keyboard", "control", "paths", "diagnosis", "extras"),
    )
]


def statements(node: ast.AST, *, everywhere: bool) -> Iterator[ast.AST]:
    """Nodes of a file: all, or only those that run when it is imported."""
    for child in ast.iter_child_nodes(node):
        if not everywhere:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
        yield child
        yield from statements(child, everywhere=everywhere)


def imports(path: Path, *, everywhere: bool = True) -> set[str]:
    """Names of modules that a file imports, and of `from x import y` both x and x.y."""
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), everywhere=everywhere):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: a relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def own(names: set[str]) -> set[str]:
    """The modules of asr among imported names, without the bare package."""
    return {name for name in names if name in MODULES} - {"asr"}


def loaded_with(module: str) -> set[str]:
    """Everything that importing a module imports, asr's own modules followed."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in MODULES:
            waiting |= imports(MODULES[name], everywhere=False)
    return found


def calls(path: Path) -> set[str]:
    """Dotted names of what a file calls or raises."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc)
    return found | {ast.unparse(exception) for exception in raised}


def test_the_model_knows_tensors_only() -> None:
    assert own(imports(MODULES["asr.model"])) == set()


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.startswith("asr.decoding.") or m == "asr.align"]
)
def test_decoders_and_alignment_see_log_probabilities_and_labels_only(module: str) -> None:
    allowed = {"asr.decoding", "asr.align", "asr.labels", "asr.errors", "asr.files", "asr.text"}
    allowed |= {"asr.transcript"}
    assert {
        name for name in own(imports(MODULES[module])) if not name.startswith("asr.decoding.")
    } <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_inference_does_not_import_training(module: str) -> None:
    if module.startswith("asr.training") or module in ("asr.commands.train", "asr.commands.lm"):
        return
    assert not {name for name in imports(MODULES[module]) if name.startswith("asr.training")}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_inside_imports_the_command_line(module: str) -> None:
    if module in {"asr.cli", "asr.__main__"} or module.startswith("asr.commands"):
        return
    names = imports(MODULES[module])
    assert not {n for n in names if n.startswith(("asr.cli", "asr.commands"))}


@pytest.mark.parametrize("module", [name for name in TORCHLESS if name in MODULES])
def test_light_modules_import_nothing_slow(module: str) -> None:
    slow = {"torch", "torchaudio", "numpy", "librosa", "safetensors", "rich", "jiwer", "av"}
    assert not {name.split(".")[0] for name in loaded_with(module)} & slow


@pytest.mark.parametrize("module", ["asr.recognizer", "asr.onnx_engine", "asr.streaming"])
def test_recognition_without_torch_is_possible(module: str) -> None:
    assert not {name.split(".")[0] for name in loaded_with(module)} & {"torch", "torchaudio", "librosa"}


def test_the_heads_of_all_commands_load_without_torch() -> None:
    code = f"import sys, {', '.join(['asr.cli', *HEADS])}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_exits_and_configures_logging(module: str) -> None:
    if module in {"asr.cli", "asr.decoder_process"}:  # programs
        return
    found = {name.removesuffix("()") for name in calls(MODULES[module])}
    assert not found & {"sys.exit", "exit", "quit", "os._exit", "SystemExit"}
    assert not {name for name in found if name.endswith(("basicConfig", "dictConfig"))}


@pytest.mark.parametrize("module", MODULES)
def test_the_library_does_not_print(module: str) -> None:
    if module == "asr.cli" or module.startswith("asr.commands"):
        return
    source = MODULES[module].read_text(encoding="utf-8")
    assert "print" not in calls(MODULES[module])
    assert "sys.stdout" not in source and "sys.stderr" not in source


@pytest.mark.parametrize(
    ("package", "room"),
    [
        ("soundfile", "asr.audio asr.audio_decoders"),
        ("av", "asr.audio asr.decoder_process asr.training.surroundings"),
        ("soxr", "asr.audio asr.audio_decoders asr.training.surroundings"),
        ("wave", "asr.audio"),
        ("sounddevice", "asr.microphone"),
        ("subprocess", "asr.keyboard asr.lm asr.benchmark asr.audio_decoders"),
        ("socket", "asr.control"),
        ("onnx", "asr.export asr.training.recurrent_graph"),
    ],
)
def test_formats_microphone_sockets_and_other_programs_have_one_room_each(package: str, room: str) -> None:
    users = {
        module
        for module, path in MODULES.items()
        if package in {name.split(".")[0] for name in imports(path)}
    }
    assert users <= set(room.split())


@pytest.mark.parametrize("module", MODULES)
def test_the_package_does_not_know_the_recipes(module: str) -> None:
    assert not {n for n in imports(MODULES[module]) if n.split(".")[0] in {"recipes", "tests"}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_do_not_know_each_other(path: Path) -> None:
    siblings = {recipe.stem for recipe in RECIPES}
    names = {name.split(".")[0] for name in imports(path)}
    assert "recipes" not in names and not names & siblings


def test_no_room_is_called_utils() -> None:
    banned = {"utils", "util", "helpers", "common", "misc"}
    assert not [name for name in MODULES if banned & set(name.split("."))]
