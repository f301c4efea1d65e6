"""What is measured, and what the severity of the illness does to it."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Variable(NamedTuple):
    """A measured quantity: `base + gain * severity + scatter`, of the logarithm where `log`."""

    name: str
    unit: str
    base: float
    gain: float
    stay: float
    """Scatter between stays, one standard deviation."""
    noise: float
    """Scatter between the measurements of a stay."""
    step: float
    """What is charted is a multiple of it."""
    least: float
    most: float
    rate: float
    """Share of the sets that hold it, at severity 0."""
    sought: float
    """How much the logit of `rate` rises with severity: the sicker, the more is measured."""
    log: bool = False


VARIABLES: Final = (
    Variable("HR", "1/min", 85, 9, 10, 5, 1, 20, 220, 0.90, 0.0),
    Variable("SysABP", "mmHg", 122, -9, 12, 8, 1, 40, 250, 0.55, 0.2),
    Variable("MAP", "mmHg", 80, -6, 8, 5, 1, 20, 180, 0.70, 0.2),
    Variable("Temp", "degC", 37, 0.25, 0.4, 0.2, 0.1, 32, 42, 0.30, 0.0),
    Variable("RespRate", "1/min", 19, 2.5, 3, 2, 1, 4, 60, 0.50, 0.0),
    Variable("SaO2", "%", 97, -1, 1, 0.8, 1, 60, 100, 0.25, 0.3),
    Variable("GCS", "1", 13, -1.6, 1.2, 0.7, 1, 3, 15, 0.20, 0.0),
    Variable("Urine", "mL", np.log(100), -0.35, 0.4, 0.5, 5, 0, 2000, 0.45, 0.0, log=True),
    Variable("Lactate", "mmol/L", np.log(1.6), 0.35, 0.25, 0.15, 0.1, 0.2, 25, 0.04, 0.5, log=True),
    Variable("Creatinine", "mg/dL", np.log(1.1), 0.2, 0.4, 0.08, 0.1, 0.1, 15, 0.05, 0.2, log=True),
    Variable("BUN", "mg/dL", np.log(22), 0.2, 0.45, 0.1, 1, 1, 200, 0.05, 0.2, log=True),
    Variable("WBC", "1/nL", np.log(11), 0.15, 0.3, 0.12, 0.1, 0.2, 100, 0.05, 0.2, log=True),
)
"""In the order of their codes."""


def column(field: str) -> NDArray[np.float64]:
    """One field of all variables (V,)."""
    return np.array([getattr(variable, field) for variable in VARIABLES], np.float64)
