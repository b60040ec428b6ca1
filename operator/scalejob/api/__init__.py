"""The ScaleJob API: what a user may write and what the operator answers. Values only: no I/O, no clock, no Kubernetes client."""
