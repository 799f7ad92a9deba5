"""Ours and Splink on the same files, one after the other, as a table, and as last line Splink's seconds over ours on the largest.

  python benches/identity/compare.py COUNTRY:FILE.csv…

Each side runs in a process of its own, so that peaks of memory are its own.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def measured(script: str, *arguments: str) -> dict:
    done = subprocess.run([sys.executable, HERE / script, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, side: str, result: dict, times: dict) -> str:
    return (
        f"{name:24} {side:24} {result['pairwise']:.4f} {result['precision']:.4f} {result['recall']:.4f} {result['b_cubed']:.4f}"
        f" {result['largest']:8} {times.get('seconds', float('nan')):9.1f} {times.get('megabytes', float('nan')):9.0f}"
    ).replace("nan", "   ")


def main(sets: list[str]) -> None:
    print(f"{'set':24} {'':24} {'F1':6} {'P':6} {'R':6} {'B³ F1':6} {'largest':>8} {'seconds':>9} {'peak MB':>9}", flush=True)
    ratios = []
    for entry in sets:
        country, path = entry.split(":", 1)
        with open(path, encoding="utf-8") as file:
            records = sum(1 for _ in file) - 1
        name = Path(path).stem
        ours = measured("ours.py", path, country)
        print(row(name, "decisioning, defaults", ours, ours), flush=True)
        peer = measured("peer.py", path)
        print(row(name, "Splink at 0.95", peer, peer))
        print(row(name, f"Splink at best, {peer['best']['threshold']:.0f} bits", peer["best"], {}))
        print(f"{'':24} with shared buffers our backend peaked at {ours['with_buffers']:.0f} MB", flush=True)
        ratios.append((records, peer["seconds"] / ours["seconds"]))
    largest = max(records for records, _ in ratios)
    print(f"identity ratio {min(ratio for records, ratio in ratios if records == largest):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
