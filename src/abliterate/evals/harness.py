"""Tasks of lm-evaluation-harness on the model as it stands, hooks included, through the harness's own Python API.

A task is a name that the harness knows, whose data it fetches from a hub, or a YAML file, whose data may lie beside it:
`dataset_path: json` with `data_files` needs no network.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from abliterate.anatomy.load import Subject
from abliterate.errors import MissingExtra, SettingsError

__all__ = ["TaskScore", "check_tasks", "run_tasks"]

_RESAMPLES: Final = 1000  # of metrics whose standard error has no formula


@dataclass(frozen=True)
class TaskScore:
    """One metric of one task.

    Attributes:
        task: its name, or that of its group.
        metric: with its filter, such as `acc,none`.
        value: in the metric's own unit.
        error: standard error; None where the harness gives none.
        n: documents; 0 of a group, whose tasks hold them.
        version: of the task.
        higher_is_better: None where the task does not say.
    """

    task: str
    metric: str
    value: float
    error: float | None
    n: int
    version: str
    higher_is_better: bool | None


def run_tasks(
    subject: Subject, tasks: Sequence[str], *, limit: int | None, batch_size: int, seed: int
) -> list[TaskScore]:
    """Run tasks and collect every metric.

    Args:
        subject: the model; hooks that are set count.
        tasks: names, or paths of YAML files.
        limit: most documents of a task; None: all.
        batch_size: rows at once.
        seed: of the choice of few-shot examples and of resampling.

    Raises:
        MissingExtra: the harness is not installed.
        SettingsError: a task that is not known, or cannot be read.
    """
    check_tasks(tasks)
    from lm_eval import simple_evaluate  # takes seconds to import
    from lm_eval.models.huggingface import HFLM

    specs = [str(Path(task).expanduser()) if is_file(task) else task for task in tasks]
    # It prints tables of its own, and stdout is for our result.
    with contextlib.redirect_stdout(io.StringIO()):
        manager = _manager(specs)
        model = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=batch_size)
        results = simple_evaluate(
            model=model,
            tasks=specs,
            task_manager=manager,
            limit=limit,
            log_samples=False,
            bootstrap_iters=_RESAMPLES,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    return _scores(results)


def check_tasks(tasks: Sequence[str]) -> None:
    """Whether tasks can be run at all, which costs nothing to find out.

    Raises:
        MissingExtra: there are tasks, and no harness.
        SettingsError: a file that is not there.
    """
    if tasks and find_spec("lm_eval") is None:
        raise MissingExtra("tasks need lm-evaluation-harness", 'pip install "abliterate[eval]"')
    for task in tasks:
        if is_file(task) and not Path(task).expanduser().is_file():
            raise SettingsError(f"there is no task file {task}", "check the path given to --tasks")


def is_file(task: str) -> bool:
    """Whether a task is named by a YAML file."""
    return task.endswith((".yaml", ".yml"))


def _manager(specs: Sequence[str]) -> Any:  # noqa: ANN401 - the harness ships no types
    """A task manager that has loaded every task once, so that what is wrong with one shows before the work begins."""
    from lm_eval.tasks import TaskManager

    # Reading the harness's own thousands of task files takes seconds, and a file needs none of them.
    manager = TaskManager(include_defaults=not all(is_file(spec) for spec in specs))
    for spec in specs:
        try:
            manager.load([spec])
        except (KeyError, ValueError, TypeError, OSError, ImportError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SettingsError(
                f"the task {spec} cannot be loaded ({reason})",
                "name a task of lm-evaluation-harness whose data can be had, or a YAML file",
            ) from error
    return manager


def _scores(results: Any) -> list[TaskScore]:  # noqa: ANN401
    found = []
    for task, metrics in results["results"].items():
        documents = results.get("n-samples", {}).get(task, {}).get("effective", 0)
        better = results.get("higher_is_better", {}).get(task, {})
        for key, value in metrics.items():
            name, _, chosen = key.partition(",")
            if not chosen or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = metrics.get(f"{name}_stderr,{chosen}")
            found.append(
                TaskScore(
                    task=task,
                    metric=key,
                    value=float(value),
                    error=float(error) if isinstance(error, int | float) else None,
                    n=int(documents),
                    version=str(results.get("versions", {}).get(task, "")),
                    higher_is_better=better.get(name),
                )
            )
    return found
