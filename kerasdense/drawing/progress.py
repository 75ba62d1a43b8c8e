"""How far work is: one bar in a terminal, plain lines every so often in a file."""

import atexit
import sys
import time

INTERVAL = 30  # seconds between two lines


class Progress:
    """Tells how much of `total` (None: unknown) is done.

    The bar goes when all is done, at the end of the context that this is, or of the program.

    `unit`: what is counted, in the plural; `what`: the work, in a word; `shown`: False tells
    nothing.
    """

    def __init__(self, total, unit, what="", shown=True):
        self.total, self.unit, self.what, self.shown = total, unit, what, shown
        self.began = self.told = time.perf_counter()
        self.bar = None
        # A process without a standard output has None.
        if shown and sys.stdout is not None and sys.stdout.isatty():
            self.bar = _bar(total, what)
            atexit.register(self.close)  # an error may end the program, and the cursor is hidden

    def update(self, done, text=""):
        """`done`: of the total, from the beginning; `text`: what else to tell, such as a loss."""
        if self.bar:
            (task,) = self.bar.task_ids
            self.bar.update(task, completed=done, text=text)
            if done == self.total:
                self.close()
        elif self.shown and time.perf_counter() - self.told >= INTERVAL:
            self.told = time.perf_counter()
            print(self._line(done, text), flush=True)

    def of(self, done, total):
        """As `update`, where the total shows later."""
        self.total = total
        if self.bar:
            (task,) = self.bar.task_ids
            self.bar.update(task, total=total)
        self.update(done)

    def _line(self, done, text):
        seconds = self.told - self.began
        counted = done if self.total is None else f"{done}/{self.total}"
        parts = [f"{counted} {self.unit}"]
        if text:
            parts.append(text)
        parts.append(duration(seconds))
        if self.total and done:
            parts.append(f"{duration(seconds * (self.total / done - 1))} left")
        return "  " + (f"{self.what}: " if self.what else "") + ", ".join(parts)

    def close(self):
        atexit.unregister(self.close)
        if self.bar:
            self.bar.stop()
            self.bar, self.shown = None, False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _bar(total, what):
    # Rich comes with Keras; it is slow to import, and what is not seen needs none.
    from rich import console, progress

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[text]}"),
        transient=True,
        console=console.Console(),  # rich's own remembers whether an earlier stdout was a terminal
    )
    bar.add_task(what, total=total, text="")
    bar.start()
    return bar


def duration(seconds):
    """Seconds as text: 1m15s, 2h02m."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
