"""The installed command hears SIGTERM before it has imported anything slow."""

import signal
import subprocess
import sys
import textwrap


def test_sigterm_while_the_commands_are_imported() -> None:
    code = """
        import importlib.abc, sys, time
        class Slow(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "naics_job.cli.app":
                    print("importing", flush=True)
                    time.sleep(50)
        sys.meta_path.insert(0, Slow())
        from naics_job.cli.entry import main
        main()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), "launch", "--", "train"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
