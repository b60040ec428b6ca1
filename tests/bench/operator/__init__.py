"""Figures of the operator on a real control plane with nodes that are objects only, beside those who do the same."""
