"""`job`: runs on a cluster, from manifests to the exit code of the contract."""

import typer

from naics_job.cli import job_cancel, job_check, job_follow, job_submit

app = typer.Typer(
    help="Submit runs to a cluster, follow, wait for and stop them.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.command("render")(job_submit.render)
app.command("submit")(job_submit.submit)
app.command("status")(job_follow.status)
app.command("logs")(job_follow.logs)
app.command("wait")(job_follow.wait)
app.command("cancel")(job_cancel.cancel)
app.command("list")(job_follow.list_runs)
app.command("check")(job_check.check)
