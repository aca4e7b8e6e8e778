"""Build the wheel, install it into an empty environment, and ask its command who it is.

Run by `make check`; not a test of the suite, because it builds an environment.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bagbot-wheel-") as folder:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
        run([*build, str(PROJECT)])
        (wheel,) = Path(folder).glob("*.whl")
        environment = Path(folder) / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--no-deps", "--no-index", str(wheel)])
        # What it needs comes from the environment that is there; its own code from the wheel.
        (packages,) = Path(sys.executable).parents[1].glob("lib/python*/site-packages")
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "needed.pth").write_text(f"{packages}\n")
        found = run([str(python), "-c", "import bagbot; print(bagbot.__file__)"], cwd=folder)
        assert found.startswith(str(environment)), f"bagbot came from {found}, not from the wheel"
        command = environment / "bin" / "bagbot"
        version = run([str(command), "--version"], cwd=folder)
        loaded = run(
            [
                str(python),
                "-c",
                "import sys\n"
                "from bagbot.cli import main\n"
                "sys.argv = ['bagbot', '--help']\n"
                "try:\n    main()\nexcept SystemExit: pass\n"
                "print(*sorted({'ccxt', 'numba', 'fastapi', 'polars'} & set(sys.modules)), 'none')",
            ],
            cwd=folder,
        )
        assert loaded.splitlines()[-1].strip() == "none", loaded
        sys.stdout.write(f"the wheel {wheel.name} installs and runs: {version}\n")


def run(command: list[str], cwd: str | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
