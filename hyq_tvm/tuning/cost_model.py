"""Gradient-boosted trees that predict how fast a choice is, from all that was measured so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xgboost

_ROUNDS = 60
_PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 5,
    "eta": 0.2,
    "subsample": 0.9,
    "min_child_weight": 1,
    "tree_method": "hist",
    "nthread": 1,
    "verbosity": 0,
}


@dataclass
class CostModel:
    """One model for all tasks of a rule: what is learnt on one layer serves the others.

    It learns ``log(seconds / seconds of the rule's own choice)``, so that layers of any size have
    numbers of one size. seed: of the trees' samples.
    """

    seed: int
    _features: list[NDArray[np.float64]] = field(default_factory=list)
    _targets: list[float] = field(default_factory=list)
    _trees: xgboost.Booster | None = None

    def add(self, features: NDArray[np.float64], ratio: float) -> None:
        """One measurement: ``ratio`` is seconds over those of the rule's own choice."""
        self._features.append(features)
        self._targets.append(float(np.log(ratio)))
        self._trees = None

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predicted logarithms of ratios for the rows of ``features``.

        All 0 before there is anything to learn from.
        """
        if len(set(self._targets)) < 2:
            return np.zeros(len(features))
        # Only a tuner that has learnt something waits for it: it brings scikit-learn and SciPy.
        import xgboost

        if self._trees is None:
            data = xgboost.DMatrix(np.stack(self._features), label=np.array(self._targets))
            self._trees = xgboost.train(
                {**_PARAMETERS, "seed": self.seed}, data, num_boost_round=_ROUNDS
            )
        predicted = self._trees.predict(xgboost.DMatrix(features))
        return np.asarray(predicted, np.float64)
