"""Problems of fewer rows, which say where the minimum of all is at a fraction of the cost of a pass."""

from dataclasses import replace

import torch

from scaletrain.data.blocks import Block, Blocks, rows_per_block

from .margin import MarginProblem

SAMPLE = 8  # each 8th block, or row
SAMPLED_BLOCKS, SAMPLED_ROWS = 2, 50  # a sample of blocks needs at least so many, and rows for each coefficient
THINNED, THINNED_ROWS = 512, 12  # one of rows needs at least so many, and for each coefficient


def samples(problem: MarginProblem) -> list[MarginProblem]:
    """Problems of fewer and fewer rows: some blocks, if they are many, then some rows of those, if they are.

    All are in the same coordinates, and bounds on all rows hold for some of them too.
    """
    R, P, rows = rows_per_block(problem.blocks.num_features), len(problem.x.mean_D) + 1, problem.blocks.num_rows
    found: list[MarginProblem] = []
    if rows >= SAMPLE * max(SAMPLED_BLOCKS * R, SAMPLED_ROWS * P):
        found.append(_of_rows(problem, problem.blocks.sample(SAMPLE)))
        rows //= SAMPLE
    if rows >= SAMPLE * max(THINNED, THINNED_ROWS * P) and not problem.is_wide:
        found.append(_thinned((found or [problem])[-1]))
    return found


def _thinned(problem: MarginProblem) -> MarginProblem:
    """Of each 8th row of each block, which are copied."""

    def some(block: Block) -> Block:
        return block.take(torch.arange(0, len(block), SAMPLE, device=block.device))

    return _of_rows(problem, problem.blocks.stored(some, problem.blocks.num_features))


def _of_rows(problem: MarginProblem, blocks: Blocks) -> MarginProblem:
    return replace(problem, blocks=blocks, l2=problem.l2 / SAMPLE, intercept_l2=problem.intercept_l2 / SAMPLE)
