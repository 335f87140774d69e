"""Launchers that stand for pods: one process each, a scratch folder each, one shared store."""

from dataclasses import replace

from s3_server import free_port

from campaigns.counts import Counts
from campaigns.processes import Started
from campaigns.scene import Scene, trace_of
from campaigns.stage import START_S, Stage
from campaigns.undisturbed import Reference

GLOBAL_BATCH = 12  # of 2, 3 and 4 pods
TOGETHER_S = 120.0  # from the first pod that ended to the last


def start_pods(stage: Stage, scene: Scene, num_pods: int) -> list[Started]:
    """Start the same run in so many pods; one pod is `train` without a launcher."""
    size = f"data_loader.batch_size={GLOBAL_BATCH // num_pods}"
    train = scene.command(size, name="pod-0")
    if num_pods == 1:
        return [stage.processes.start(train)]
    endpoint = f"127.0.0.1:{free_port()}"
    pods = []
    for rank in range(num_pods):
        options = {
            "nnodes": num_pods, "nproc-per-node": 1, "node-rank": rank, "rdzv-endpoint": endpoint,
        }  # fmt: skip
        launch = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        arguments = ["launch", *launch, "--", *train.arguments]
        command = replace(train, arguments=arguments, name=f"pod-{rank}")
        pods.append(stage.processes.start(command, ("-m", "naics_job.cli.app")))
    return pods


def wait_all(pods: list[Started]) -> list[int]:
    """Exit codes of all; those that outlive the first by `TOGETHER_S` are killed and raise."""
    pods[0].until(lambda: any(pod.code() is not None for pod in pods), START_S, "the first end")
    return [pod.wait(TOGETHER_S) for pod in pods]


def kill_all(pods: list[Started]) -> None:
    """End every pod at once."""
    for pod in pods:
        pod.kill()


def reference_of(stage: Stage, num_pods: int, *settings: str) -> Reference:
    """The undisturbed run in so many pods."""
    scene = stage.scene(*settings, data=stage.shared_data)
    pods = start_pods(stage, scene, num_pods)
    codes = wait_all(pods)
    assert set(codes) == {0}, "\n".join(pod.text[-3000:] for pod in pods)
    return Reference(trace_of(scene.steps()), scene.weights_digest(), 0.0)


def note_codes(counts: Counts, pods: list[Started], wanted: int) -> bool:
    """Wait for all and count those that did not end with `wanted`; whether all did."""
    codes = wait_all(pods)
    wrong = [pod for pod, code in zip(pods, codes, strict=True) if code != wanted]
    counts.add(f"launchers that did not exit {wanted}", len(wrong))
    for pod in wrong:
        counts.fail(f"{pod.log.name} exited {pod.code()}, not {wanted}: {pod.text[-1500:]}")
    return not wrong
