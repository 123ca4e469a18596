"""Which labels the result of a PromQL expression has, and what in the expression cannot be.

Prometheus takes an expression with a wrong name for one that has no series: it is no error and gives nothing, for ever.
"""

import re

from exposition import SELDOM, TARGET_LABELS

# Their results have the labels of their argument, without the name.
KEEP_LABELS = set(
    """abs avg_over_time ceil changes clamp_max clamp_min count_over_time delta deriv floor idelta increase irate
    last_over_time max_over_time min_over_time rate resets round sort sort_desc sum_over_time""".split()
)
NO_LABELS = {"absent", "vector"}
SCALARS = {"scalar", "time"}
SET_OPERATORS = {"and", "or", "unless"}
# Aggregations that choose among series and leave their labels alone.
CHOOSERS = {"topk", "bottomk"}
# Stands in an expression for what a variable of a dashboard is replaced by.
ANYTHING = "anything"


class Wrong(Exception):
    """What is wrong with an expression, in a sentence."""


class Vocabulary:
    """What expressions may ask for."""

    def __init__(self, exposition):
        self.exposition = exposition
        # Series that Prometheus makes itself, and those of recording rules: their labels.
        jobs = {service for metric in exposition.metrics.values() for service in metric.services}
        self.made = {"up": {"job": jobs, "instance": set()}}
        self.used = set()
        # The values of the labels of what the latest expression asks for.
        self.values = {}

    def record(self, name, text):
        """Adds the series of a recording rule, or raises Wrong."""
        labels = self.labels_of(text)
        self.made[name] = {label: self.values.get(label, set()) for label in labels}

    def labels_of(self, text):
        """Returns the labels of the result, or None if it is a number; raises Wrong."""
        import promql_parser

        self.values = {}
        try:
            tree = promql_parser.parse(text)
        except ValueError as error:
            raise Wrong(str(error)) from error
        return self.visit(tree)

    def visit(self, tree):
        kind = type(tree).__name__
        if kind in ("NumberLiteral", "StringLiteral"):
            return None
        if kind in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
            return self.visit(tree.expr)
        if kind == "MatrixSelector":
            return self.select(tree.vector_selector)
        return {
            "VectorSelector": self.select,
            "AggregateExpr": self.aggregate,
            "BinaryExpr": self.combine,
            "Call": self.call,
        }[kind](tree)

    def select(self, selector):
        name = selector.name
        if name in self.made:
            known = self.made[name]
        else:
            known = self.exposed(name)
        for matcher in selector.matchers.matchers:
            if matcher.name not in known:
                raise Wrong(f"{name} has no label {matcher.name}, only {', '.join(sorted(known))}")
            check_value(name, matcher, known[matcher.name])
        self.used.add(name)
        for label, values in known.items():
            self.values[label] = self.values.get(label, set()) | values
        return set(known)

    def exposed(self, name):
        metric = self.exposition.metrics.get(name)
        if metric is None:
            raise Wrong(f"nobody exposes {name}")
        if metric.labels is None and name not in SELDOM:
            raise Wrong(f"no series of {name} was seen, so its labels are not known")
        seldom = {label: set() for label in SELDOM.get(name, set()) | TARGET_LABELS}
        return {**seldom, **(metric.labels or {})}

    def aggregate(self, tree):
        inner = self.visit(tree.expr)
        operation = str(tree.op)
        if inner is None:
            raise Wrong(f"{operation} of a number")
        named = set(tree.modifier.labels) if tree.modifier else set()
        if named - inner:
            raise Wrong(f"{operation} by {', '.join(sorted(named - inner))}: only {', '.join(sorted(inner))} is there")
        if operation in CHOOSERS:
            return inner
        without = tree.modifier is not None and str(tree.modifier.type).endswith("Without")
        return inner - named if without else named

    def combine(self, tree):
        left, right = self.visit(tree.lhs), self.visit(tree.rhs)
        operation = str(tree.op).split()[0]
        if left is None or right is None:
            return right if left is None else left
        matching = tree.modifier.matching if tree.modifier else None
        if operation == "or" and matching is None:
            return left | right
        if matching is None:
            compared = None
            if left != right:
                raise Wrong(f"{operation}: {sorted(left)} never equals {sorted(right)}")
        elif str(matching.type).endswith("Include"):
            compared = set(matching.labels)
            if compared - (left & right):
                raise Wrong(f"{operation} on {sorted(compared)}: {sorted(left)} and {sorted(right)} have not all of it")
        else:
            compared = left - set(matching.labels)
            if compared != right - set(matching.labels):
                raise Wrong(f"{operation} ignoring {matching.labels}: {sorted(left)} never equals {sorted(right)}")
        if operation in SET_OPERATORS or compared is None:
            return left
        return self.group(tree.modifier, left, right, compared)

    @staticmethod
    def group(modifier, left, right, compared):
        """Returns the labels of a matched arithmetic operation or comparison."""
        card = str(modifier.card)
        added = set(modifier.group_labels or [])
        many, one = (right, left) if card.endswith("OneToMany") else (left, right)
        if added - one:
            raise Wrong(f"group_left or group_right: {sorted(added - one)} is not there")
        return compared if card.endswith("OneToOne") else many | added

    def call(self, tree):
        name = tree.func.name
        vectors = [labels for labels in map(self.visit, tree.args) if labels is not None]
        if name in SCALARS:
            return None
        if name in NO_LABELS:
            return set()
        if name == "histogram_quantile":
            if "le" not in vectors[0]:
                raise Wrong("histogram_quantile needs the label le")
            return vectors[0] - {"le"}
        if name in KEEP_LABELS:
            return vectors[0]
        raise Wrong(f"{name}: this check does not know what labels it gives")


def check_value(name, matcher, seen):
    """A value that no series has gives nothing, as a wrong label does; what was not seen at all cannot be judged."""
    operator = str(matcher.op).rsplit(".", 1)[-1]
    if matcher.value == ANYTHING or seen <= {""}:
        return
    if operator == "Equal" and matcher.value not in seen:
        raise Wrong(f"{name}: {matcher.name} was never {matcher.value}, only {', '.join(sorted(seen))}")
    if operator == "Re" and not any(re.fullmatch(matcher.value, value) for value in seen):
        raise Wrong(f"{name}: no {matcher.name} matches {matcher.value}, only {', '.join(sorted(seen))} were seen")
