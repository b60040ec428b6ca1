"""The pure core: what to do about one job, given what was seen.

    read_job, read_pod (observe)  ->  decide(job, pods, now)  ->  Plan(status, creates, deletes, events, requeue_after)
                                      decide_unreadable (unreadable), for a job that does not parse
                                      build_service, build_pod (pods)  ->  the objects that a Plan's creates stand for

Nothing here does I/O, reads a clock, draws a random number or looks at the environment: the same arguments give the same
answer, and every test is a function call. What carries a Plan out lives in `scalejob.engine` and `scalejob.local`.
"""
