"""Commands take the values that they need: the configuration ends above them."""

from __future__ import annotations

import ast
from pathlib import Path

COMMANDS = Path(__file__).resolve().parents[2] / "service" / "commands"


def test_the_configuration_is_read_in_one_place_of_the_commands() -> None:
    reading = {}
    for path in COMMANDS.glob("*.py"):
        functions = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for function in functions:
            annotations = [each.annotation for each in function.args.args if each.annotation]
            if any(ast.unparse(each) == "Config" for each in annotations):
                reading.setdefault(path.name, []).append(function.name)
    # `facette init` is about the configuration itself.
    of_init = reading.pop("init.py")
    assert of_init == ["_models_there", "_database", "_steps"]
    assert reading == {"calibrate.py": ["of"], "doctor.py": ["of"]}
