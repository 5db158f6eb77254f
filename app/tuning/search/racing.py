"""STUB"""
from typing import NamedTuple
import numpy as np
class RaceStep(NamedTuple):
    issue: list
    out: list
def race_lossless(acc, failed, settled, places, burn_in, wave=4, last=True):
    n, k = acc.shape
    done = ~np.isnan(acc) | failed
    alive = ~settled & ~failed.any(axis=1)
    out = [i for i in range(n) if not settled[i] and failed[i].any()]
    complete = done.all(axis=1) & alive
    if not complete.any():
        means = np.where(alive, acc[:, :burn_in].mean(axis=1), -1)
        leaders = np.argsort(-means, kind="stable")[: max(wave, places)]
        return RaceStep([(int(i), f) for i in leaders if alive[i] for f in range(burn_in, k)], out)
    full = sorted((np.average(acc[i]) for i in range(n) if complete[i]), reverse=True)
    bar = full[places-1] if len(full) >= places else -1
    issue=[]
    for i in range(n):
        if alive[i] and not complete[i]:
            if np.average(np.where(done[i], acc[i], 1.0)) < bar: out.append(i)
            else: issue.append((i, int(np.flatnonzero(~done[i])[0])))
    return RaceStep(issue, out)
