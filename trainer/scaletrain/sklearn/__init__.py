"""scikit-learn's estimators, trained by the fits of `scaletrain.estimators`. They check what they are given and name what was learned; nothing
is computed here that a job computes.
"""
