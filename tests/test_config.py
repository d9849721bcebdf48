"""Configuration: TOML and overrides into dataclasses, and clear refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asr import config
from asr.errors import ConfigError, UsageError

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Engine:
    power: float = 1.0
    cylinders: int = 4
    fuels: tuple[str, ...] = ("petrol",)
    limits: dict[str, float] = field(default_factory=dict)
    turbo: bool = False
    note: str | None = None

    def __post_init__(self) -> None:
        if self.cylinders < 1:
            raise ValueError("cylinders: at least one")


@dataclass(frozen=True)
class Car:
    name: str
    engine: Engine = Engine()


def load(tmp_path: Path, text: str, *overrides: str) -> Car:
    path = tmp_path / "car.toml"
    path.write_text(text, encoding="utf-8")
    return config.load(path, overrides, Car)


def test_tables_become_nested_dataclasses(tmp_path: Path) -> None:
    text = """
        name = "beetle"
        [engine]
        power = 25
        fuels = ["petrol", "gas"]
        turbo = true
        note = "rear"
        [engine.limits]
        speed = 120
    """
    engine = Engine(25.0, 4, ("petrol", "gas"), {"speed": 120.0}, True, "rear")
    assert load(tmp_path, text) == Car("beetle", engine)
    assert isinstance(load(tmp_path, text).engine.power, float)


def test_overrides_win_and_their_values_are_toml_or_bare_words(tmp_path: Path) -> None:
    car = load(
        tmp_path,
        "name = 'beetle'\n[engine]\npower = 25",
        "name=ghia",
        "engine.power=34",
        "engine.turbo=true",
        'engine.fuels=["gas"]',
        "engine.limits.speed = 130",
        "engine.note=a=b",
    )
    assert car == Car("ghia", Engine(34.0, 4, ("gas",), {"speed": 130.0}, True, "a=b"))


def test_an_override_may_make_its_table(tmp_path: Path) -> None:
    assert load(tmp_path, "name = 'beetle'", "engine.cylinders=2").engine.cylinders == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam = 'x'", "car.toml: nam: unknown key; did you mean name?"),
        ("name = 'x'\n[engine]\ncylinder = 3", "engine: cylinder: unknown.*mean cylinders?"),
        ("name = 'x'\n[engine]\nzzz = 3", "zzz: unknown key; known: power, cylinders"),
        ("", "car.toml: name is missing"),
        ("name = 7", "name: expected str, got 7"),
        ("name = 'x'\nengine = 3", "engine: expected a table, got 3"),
        ("name = 'x'\n[engine]\ncylinders = 4.5", "cylinders: expected int, got 4.5"),
        ("name = 'x'\n[engine]\ncylinders = true", "cylinders: expected int, got True"),
        ("name = 'x'\n[engine]\npower = true", "power: expected float, got True"),
        ("name = 'x'\n[engine]\npower = 'big'", "power: expected float, got 'big'"),
        ("name = 'x'\n[engine]\nturbo = 1", "turbo: expected bool, got 1"),
        ("name = 'x'\n[engine]\nfuels = 'gas'", "fuels: expected a list, got 'gas'"),
        ("name = 'x'\n[engine]\nfuels = [1]", "fuels: expected str, got 1"),
        ("name = 'x'\n[engine]\nlimits = 1", "limits: expected a table, got 1"),
        ("name = 'x'\n[engine.limits]\na = 'b'", "limits.a: expected float, got 'b'"),
        ("name = 'x'\n[engine]\ncylinders = 0", "engine: cylinders: at least one"),
        ("name = ", "car.toml: not TOML"),
        ("name = 'x'\n[engine]\npower = nan", "engine: power: expected a finite number, got nan"),
        ("name = 'x'\n[engine]\nlimits = {a = inf}", "limits.a: expected a finite number, got inf"),
        (f"name = 'x'\n[engine]\npower = 1{'0' * 400}", "power: expected a finite number, got 1000"),
        (f"name = {'9' * 5000}", "car.toml: not TOML"),
        (f"name = {'[' * 50_000}", "car.toml: not TOML: nested too deeply"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, UsageError)  # exit status 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("engine.power", "an override is key=value"),
        ("engine.cylinder=3", "did you mean cylinders"),
        ("name.first=x", "name is a value, not a table"),
        ("engine=3", "expected a table"),
        ("=3", "unknown key"),
    ],
)
def test_a_bad_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, "name = 'beetle'", override)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file"):
        config.load(tmp_path / "gone.toml", [], Car)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(ConfigError, match=r"latin\.toml:1: is not a text file in UTF-8"):
        config.load(tmp_path / "latin.toml", [], Car)


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "car.toml").write_text("name = 'beetle'", encoding="utf-8-sig")
    assert config.load(tmp_path / "car.toml", [], Car).name == "beetle"


def test_plain_values_of_a_dataclass_make_it_again() -> None:
    import dataclasses

    car = Car("beetle", Engine(fuels=("gas",), limits={"speed": 1.0}))
    plain: dict[str, Any] = dataclasses.asdict(car)
    assert config.from_mapping(plain, Car) == car


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*/*.toml")), ids=lambda p: p.name)
def test_the_recipes_configurations_are_valid(path: Path) -> None:
    from asr.training.config import RunConfig

    # One for fine-tuning has no [model]: it takes the shape of the model that it begins with.
    shape = {"model": {"outputs": {"characters": 29, "phones": 40}, "middle_outputs": ["phones"]}}
    defaults = {} if "\n[model]" in path.read_text() else shape
    assert config.load(path, ["training.max_updates=1"], RunConfig, defaults).training.max_updates == 1


def test_defaults_count_where_neither_file_nor_override_has_the_key(tmp_path: Path) -> None:
    path = tmp_path / "car.toml"
    path.write_text('name = "beetle"\n[engine]\npower = 2.0\n')
    defaults = {"engine": {"power": 5.0, "cylinders": 6, "fuels": ["gas"]}}
    car = config.load(path, ["engine.cylinders=8"], Car, defaults)
    assert (car.engine.power, car.engine.cylinders, car.engine.fuels) == (2.0, 8, ("gas",))
