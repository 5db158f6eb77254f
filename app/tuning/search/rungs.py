"""STUB"""
from math import floor, log, ceil
from typing import NamedTuple
import numpy as np
class Rung(NamedTuple):
    bracket: int
    iter: int
    n_candidates: int
    n_resources: int
def plan_halving(n_candidates, least, most, factor, aggressive, exhaust):
    required = 1 + floor(log(n_candidates, factor))
    if exhaust: least = max(least, most // factor ** (required - 1))
    possible = 1 + floor(log(most // least, factor))
    iterations = required if aggressive else min(possible, required)
    rungs=[]; n=n_candidates
    for i in range(iterations):
        power = max(0, i - required + possible) if aggressive else i
        rungs.append(Rung(0, i, n, min(int(factor**power*least), most)))
        n = ceil(n / factor)
    return rungs
def plan_levels(n, levels, factor):
    rungs=[]
    for i, l in enumerate(levels):
        rungs.append(Rung(0,i,n,l)); n = ceil(n/factor)
    return rungs
def plan_hyperband(least, most, factor, brackets):
    s_max = 0
    while least * factor ** (s_max+1) <= most: s_max += 1
    rungs=[]
    for b, s in enumerate(range(s_max, -1, -1)):
        if brackets is not None and b >= brackets: break
        n = ceil((s_max+1)/(s+1)*factor**s)
        for i in range(s+1):
            rungs.append(Rung(b, i, n, int(most // factor**(s-i)))); n = max(1, int(n // factor))
    return rungs
def select_top(means, places):
    order = np.roll(np.argsort(means, kind="stable"), np.count_nonzero(np.isnan(means)))[-places:]
    return order[~np.isnan(means[order])]
def decide_early(means, ended, places):
    if ended.all():
        top = select_top(means, places)
        return top, np.setdiff1d(np.arange(len(means)), top)
    u = int((~ended).sum())
    index = np.flatnonzero(ended)
    order = index[np.argsort(means[index], kind="stable")][::-1]
    order = order[~np.isnan(means[order])]
    # conservative (strict)
    return order[: max(0, places - u)], order[places:]
def select_best(means):
    return None if not len(means) or np.isnan(means).all() else int(np.nanargmax(means))
