"""Carries plans out: stores what was seen, asks the planner, writes the status, makes and deletes Pods, tells people.

What may live here is what touches the world. What to do is decided in `scalejob.plan` only.
"""
