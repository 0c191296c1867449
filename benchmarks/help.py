"""Claim: `abliterate --help` takes at most 1.5 times `import typer, pydantic`, and imports no torch."""

import subprocess
import sys

from benchmarks.common import interleave, ratio, report

HELP = "import sys; sys.argv = ['abliterate', '--help']; from abliterate.ui.main import main; main()"
LOADED = "import sys, abliterate.ui.main; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"


def python(code: str) -> int:
    """Exit status of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode


def main() -> None:
    """Measure and print."""
    seconds = interleave(9, lambda: python("import typer, pydantic"), lambda: python(HELP))
    report(
        {
            "benchmark": "help",
            "ratio": round(ratio(seconds[1], seconds[0]), 4),
            "imports_torch": bool(python(LOADED)),
            "limit": 1.5,
        }
    )


if __name__ == "__main__":
    main()
