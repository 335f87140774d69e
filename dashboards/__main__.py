"""Write the dashboards as the chart ships them: `python -m dashboards`."""

from dashboards.board import to_json
from dashboards.distributed import distributed
from dashboards.fleet import fleet
from dashboards.queries import FOLDER
from dashboards.training_run import training_run


def documents() -> dict[str, str]:
    """Name of each file and its text."""
    made = (training_run(), fleet(), distributed())
    return {f"{board.build().uid}.json": to_json(board) for board in made}


def main() -> None:
    """Write all of them, and remove what is none of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts = documents()
    for old in FOLDER.glob("*.json"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
