"""Workloads measured beside each other, in turns, each in a process of its own.

So libraries do not fight for threads, backends can be mixed, memory is told apart, and the first
step is really the first. The processes wait while another one is measured.
`python -m kerasdense.benchmarks.processes` is such a process.
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from kerasdense.benchmarks import peers, runtimes, workloads
from kerasdense.benchmarks.turns import times_as_fast
from kerasdense.benchmarks.workloads import Workload

LONGEST_REASON = 300  # characters of an error
# Functions of a workload: a function of a number of steps, facts, and the memory to watch. By its
# package and runtime.
BUILDERS = {
    ("kerasdense", "keras"): workloads.build,
    **{("kerasdense", format): runtimes.build for format, _ in runtimes.ROWS.values()},
    **{("torchvision", runtime): peers.build_torchvision for runtime in peers.TORCH_ROWS},
    ("keras_hub", "keras"): peers.build_keras_hub,
}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How often workloads are measured.

    Attributes:
        turns: that count; one more, the first, does not.
        steps: of each workload in a turn.
        alone: let each end before the next begins, for work that does not fit into memory beside
            another; its seconds then drift with the machine.
    """

    turns: int
    steps: int = 1
    alone: bool = False


class Process:
    """A `Workload` in a process of its own, ready for its next step.

    Attributes:
        facts: `parameters`, `macs` of one image forward (None if unknown), `size` of the images,
            `device`, and `first_step`, seconds from the finished model to the end of its first
            step: tracing, compilation, and the step.
    Raises: ValueError with the reason if the work fails, as `run` does.
    """

    def __init__(self, workload):
        self.workload = workload
        self._errors = tempfile.TemporaryFile("w+")
        environment = os.environ | {
            "KERAS_BACKEND": workload.backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # On a GPU, take only what is needed: others are measured beside.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kerasdense.benchmarks.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        try:
            self.facts = self._ask(dataclasses.asdict(workload))
        except ValueError:
            self.close()
            raise

    def run(self, steps):
        """Seconds of a step, the mean over `steps` steps."""
        return self._ask({"steps": steps})["seconds"]

    def peak_memory(self):
        """MiB that the steps of the last `run` took at most beyond the imported libraries.

        Weights and whatever is kept between steps included. On a GPU the device's memory, on a CPU
        resident memory as Linux counts it; None where neither is counted.
        """
        return self._ask({"memory": True})["mebibytes"]

    def close(self):
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, question):
        with contextlib.suppress(BrokenPipeError):  # said below
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise ValueError(f"{self.workload.work} {self.workload.model}: {answer['error']}")
        return answer

    def _last_words(self):
        """Why the process ended without an answer."""
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return "killed, perhaps for want of memory"
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"ended with status {status}: {last[:LONGEST_REASON]}"


def measure(named, schedule):
    """Facts, seconds and memory of each of several workloads, {name: Workload}.

    `schedule`: a `Schedule`.

    Returns: {name: result}. A result holds the `facts` of its `Process`, `seconds` (of a step, a
    list of all turns), `milliseconds` (their median), `images_per_second`, `peak_mebibytes` and
    `first_over_this` (the first workload's time over this one's, the median of the turns; None
    where the first failed); or only `failed`, the reason.
    """
    results = {}
    for names in [[name] for name in named] if schedule.alone else [list(named)]:
        results |= _measured_together({name: named[name] for name in names}, schedule)
    seconds = {name: each["seconds"] for name, each in results.items() if "seconds" in each}
    first = next(iter(named))
    for name in seconds:
        ratio = times_as_fast(name, first, seconds) if first in seconds else None
        results[name]["first_over_this"] = ratio
    return {name: results[name] for name in named}


def _measured_together(named, schedule):
    results, seconds = {}, {name: [] for name in named}
    with contextlib.ExitStack() as stack:
        processes = {}

        def attempt(name, question):
            """Its answer; or None from the first failure on."""
            if name in results:
                return None
            try:
                return question()
            except ValueError as error:
                results[name] = {"failed": str(error)}

        for name, workload in named.items():
            process = attempt(name, functools.partial(Process, workload))
            if process:
                processes[name] = stack.enter_context(contextlib.closing(process))
        for turn in range(-1, schedule.turns):
            for name, process in processes.items():
                measured = attempt(name, functools.partial(process.run, schedule.steps))
                if turn >= 0:
                    seconds[name].append(measured)
        for name, process in processes.items():
            peak = attempt(name, process.peak_memory)
            if name not in results:
                median = statistics.median(seconds[name])
                results[name] = process.facts | {
                    "seconds": seconds[name],
                    "milliseconds": 1000 * median,
                    "images_per_second": process.workload.batch_size / median,
                    "peak_mebibytes": peak,
                }
    return results


def main():
    """The process of a `Workload`: answers each line of JSON it reads by one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the errors

    def answer(**facts):
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    try:
        _answer_all(answer)
    except Exception as error:  # of any library: the one who asked prints it
        answer(error=" ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__)
        raise


def _answer_all(answer):
    workload = Workload.read(sys.stdin.readline())
    run, facts, memory = BUILDERS[workload.package, workload.runtime](workload)
    began = time.perf_counter()
    run(1)
    answer(first_step=time.perf_counter() - began, **facts)
    for line in sys.stdin:
        question = json.loads(line)
        if "memory" in question:
            answer(mebibytes=memory.peak())
            continue
        memory.reset()
        began = time.perf_counter()
        run(question["steps"])
        answer(seconds=(time.perf_counter() - began) / question["steps"])


if __name__ == "__main__":
    main()
