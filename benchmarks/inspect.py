"""Claim: `abliterate inspect` of a 70B dense and of a DeepSeek-V3 configuration takes at most 20 s and 1.5 GB.

No weights are there: a directory with config.json alone. The whole process is measured, Python's imports included.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from transformers import CONFIG_MAPPING, LlamaConfig, PreTrainedConfig

from benchmarks.common import report

COMMAND = (sys.executable, "-c", "from abliterate.ui.main import main; main()")


def main() -> None:
    """Measure and print."""
    configs = {
        "llama_70b": LlamaConfig(
            hidden_size=8192,
            intermediate_size=28672,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
            vocab_size=128256,
        ),
        "deepseek_v3": CONFIG_MAPPING["deepseek_v3"](),
    }
    rows = {name: _measure(config) for name, config in configs.items()}
    report(
        {
            "benchmark": "inspect",
            "seconds": max(row["seconds"] for row in rows.values()),
            "peak_rss_mb": max(row["peak_rss_mb"] for row in rows.values()),
            "limits": [20, 1500],
            "rows": rows,
        }
    )


def _measure(config: PreTrainedConfig) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        start = time.perf_counter()
        process = subprocess.Popen([*COMMAND, "inspect", folder, "--json"], stdout=subprocess.PIPE, cwd=Path.cwd())
        output, _ = process.communicate()
        seconds = time.perf_counter() - start
    seen = json.loads(output)
    peak = _peak_of_children()
    return {
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(peak / 1024),
        "layers": seen["layers"],
        "writers": sum(row["tensors"] for row in seen["rows"]),
    }


def _peak_of_children() -> int:
    """The largest resident size that any child process so far has reached, in KB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
