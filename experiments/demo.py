"""The demo (`make demo`): train three methods on ten tasks of real images, and compare them."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent.parent
METHODS = ("finetune", "mas", "growmas")


def growmas(*arguments):
    print(f"\n$ growmas {' '.join(arguments)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("growmas"), *arguments], cwd=HERE, check=True)


def main():
    for method in METHODS:
        config = f"configs/mnist5k_permuted_{method}.yaml"
        growmas("run", config, "--out", f"runs/demo/{method}", "--overwrite")
    growmas("compare", *(f"runs/demo/{method}" for method in METHODS))
    growmas("show", "runs/demo/growmas")


if __name__ == "__main__":
    main()
