"""Support vector machines: linear with either hinge loss, rbf by Nystroem features. The entry is `kernels`."""
