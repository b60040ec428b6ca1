"""A small client-go on aiohttp and orjson: configuration, requests, errors, rate limit, reflector, store, work queue.

What may live here is what any controller needs. Nothing here knows what a ScaleJob is.
"""
