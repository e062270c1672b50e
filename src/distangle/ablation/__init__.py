"""Run the ablation of Fig. 6 over seeds and held-out experiments."""

from distangle.ablation.compare import Comparison, Row, compare
from distangle.ablation.components import COMPONENTS, CONDITIONS, Component, Condition, chosen_conditions
from distangle.ablation.page import write_comparison
from distangle.ablation.plan import AblationPlan, continue_ablation, plan_ablation
from distangle.ablation.run import run_ablation, run_folder

__all__ = [
    "CONDITIONS",
    "COMPONENTS",
    "Comparison",
    "Condition",
    "Component",
    "AblationPlan",
    "Row",
    "chosen_conditions",
    "compare",
    "continue_ablation",
    "plan_ablation",
    "run_ablation",
    "run_folder",
    "write_comparison",
]
