"""Names of the metrics of an evaluation, and which way is better."""

METRICS = (
    "cophenetic",
    "spearman",
    "ndcg@5",
    "ndcg@10",
    "ndcg@20",
    "map",
    "parent@1",
    "distortion",
)
LOWER_IS_BETTER = ("distortion",)
