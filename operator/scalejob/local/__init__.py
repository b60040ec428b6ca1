"""The local backend: a plan's Pods as processes on this machine.

    paths       what lies on volumes in a Pod lies below ./.scalejob here
    container   a Pod manifest -> the command line and the environment of one process
    processes   what a Pod has: a process and everything that it starts, found and ended together
    forks       ranks of the trainer as forks of one process
    worker      one running Pod
    runner      decide -> start, stop, wait -> decide, until the job has ended
    watchdog    a program of its own that ends the workers if their starter is killed

Decisions (restarts, back-off, deadlines, messages) are those of `scalejob.plan`; nothing here judges a failure.
"""
