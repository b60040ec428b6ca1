"""Losses of the margin y (x'w + b), the sums over blocks that they need, and Newton's method on them."""
