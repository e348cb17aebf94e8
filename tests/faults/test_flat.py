"""A long run"""

import os
import time
from pathlib import Path

from faults.harness import RUN, reached

LONG = [*RUN, "--config.data.image_size=8", "--config.batch_size=2", "--config.total_steps=8000"]
LONG += ["--config.log_every_steps=100", "--config.eval_every_steps=1000", "--config.checkpoint_every_steps=500"]
LIMIT_MB = 16  # from step 2,000 to step 7,500; a leak of one float64 a step and parameter would be 3 GB
LOOKS = 10  # at each step, of which the smallest numbers count: a save in progress opens files and starts threads


def resident_mb(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_flat(shell, tally, tmp_path):
    """8,000 steps with a save every 500: memory, open files, threads and files on disk from step 2,000 on"""
    seen = []
    with tally.attempt("8,000 steps"):
        process = shell.start([*LONG, "--workdir=run"], tmp_path)
        for step in (2000, 4000, 6000, 7500):
            process.wait_for(lambda at=step: reached(tmp_path / "run") >= at, f"step {step}")
            looks = []
            for _ in range(LOOKS):
                open_files, threads = (len([*Path(f"/proc/{process.pid}/{kind}").iterdir()]) for kind in ("fd", "task"))
                looks.append((resident_mb(process.pid), open_files, threads))
                time.sleep(0.1)
            on_disk = len(
                [path for path in (tmp_path / "run").rglob("*") if "tmp" not in str(path.relative_to(tmp_path))]
            )
            seen.append((*map(min, zip(*looks, strict=True)), on_disk))
        process.finish().ends(0)
        text = ", ".join(f"{memory:.1f} MB, {files} open, {threads} threads" for memory, files, threads, _ in seen)
        print(text)
        memory, open_files, threads, on_disk = zip(*seen, strict=True)
        assert max(memory[1:]) - memory[0] < LIMIT_MB, text
        assert max(open_files[1:]) - open_files[0] <= 8 and max(threads[1:]) - threads[0] <= 8, text
        assert max(on_disk) - min(on_disk) < 60, on_disk  # one checkpoint more or less
