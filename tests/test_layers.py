"""The listing is the pipeline: folders sort into its order, and a module imports only from above (DESIGN.md)."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import abliterate

PACKAGE = Path(abliterate.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOT = {"errors", "files", "progress", "settings", "__init__"}
HEAVY = ("torch", "transformers", "datasets", "scipy", "matplotlib", "huggingface_hub")


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def layer(path):
    """The folder of a module under the package; empty for a root module."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@cache
def nodes(path):
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path):
    """Dotted names of all that a module imports, wherever it does (in functions too), with the line."""
    package = ("abliterate", *path.relative_to(PACKAGE).parts[:-1])
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, node.module] if node.module else above)
            # `from abliterate import evals` names a module too.
            whole = [f"{module}.{alias.name}" for alias in node.names] if module == "abliterate" else [module]
            yield from ((what, node.lineno) for what in whole)


def imports_any(path, *libraries):
    return any(what.split(".")[0] in libraries for what, _ in imports(path))


def may_import(path, what):
    """Whether a module may import what lies under this dotted name."""
    first = what.split(".")[1] if "." in what else "__init__"
    if (PACKAGE / first).is_dir():
        return first <= layer(path)
    return first in ROOT or first == "__version__"  # no public name: those come from everywhere


def test_a_module_imports_only_from_its_own_folder_and_from_those_above_it():
    """`__init__` alone, which holds the public names, may reach into every folder."""
    wrong = [
        f"{name(path)}, line {line}: {what}"
        for path in MODULES
        for what, line in imports(path)
        if what.split(".")[0] == "abliterate" and not may_import(path, what)
    ]
    assert not [line for line in wrong if not line.startswith("__init__.py")]


def test_the_root_modules_are_the_known_ones():
    """Whatever else there is belongs to a stage."""
    assert {path.stem for path in MODULES if not layer(path)} == ROOT


def test_the_stages_are_there():
    stages = ["anatomy", "capture", "directions", "edits", "evals", "reports", "runs", "ui"]
    assert set(stages) <= {layer(path) for path in MODULES}


def uses(path, *names):
    """Lines that call or read one of these, by their dotted or last name."""
    found = [n for n in nodes(path) if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Load)]
    last = {n: n.id if isinstance(n, ast.Name) else n.attr for n in found}
    wanted = {name.split(".")[-1] for name in names}
    return [n.lineno for n in found if last[n] in wanted and {last[n], ast.unparse(n)} & {*names}]


def test_only_ui_prints():
    below = [path for path in MODULES if layer(path) != "ui"]
    assert not [name(p) for p in below if uses(p, "print", "pprint", "sys.stdout", "sys.stderr")]
    assert not [name(p) for p in below if imports_any(p, "rich", "typer", "click")]


def test_nothing_is_pickled():
    wrong = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve")
    assert not [name(p) for p in MODULES if imports_any(p, *wrong) or uses(p, "torch.save", "torch.load")]


def test_nothing_is_left_to_assert():
    """`python -O` leaves assertions out; what must hold is checked and raised."""
    assert not [name(p) for p in MODULES if any(isinstance(node, ast.Assert) for node in nodes(p))]


def test_the_command_line_answers_before_anything_heavy_is_imported():
    """`abliterate --help` and a misspelt option should not take the seconds that torch needs to load."""
    code = f"import sys, abliterate.ui.main; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split()
