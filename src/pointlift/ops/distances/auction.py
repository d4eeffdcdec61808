"""Bertsekas' auction with epsilon scaling, one pair of clouds per thread, without a matrix of costs.

Points of a bid for points of b ("objects"): object j costs bidder i |a_i - b_j| + price_j. A bidder takes its
cheapest object and raises the price until the object costs it epsilon more than the second cheapest, so every
bidder stays within epsilon of its best choice ("epsilon-complementary slackness", Bertsekas 1988); whoever
held the object bids again. Rounds with falling epsilons keep prices, and bidders that are content with what
they hold. A round ends with a bijection. Its distance less the dual value of the prices is what it can lie
above the optimum, and the auction ends as soon as that is at most what was asked for: mostly rounds before
theory says so.

Few bids look at all objects. A scan keeps a bidder's cheapest objects and a floor under the cost of all
others. Prices only rise, so the floor holds for the rest of the auction: a bid among the kept objects is a
bid among all while the cheapest kept object is not above the floor, with the floor in the place of the second
cheapest where it is lower. Only then is there another scan.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from pointlift.ops._numba.point_lanes import LANES, bits_at_most, bits_equal, count, first
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops.distances.lanes import appraise

__all__ = ["auctions"]

_WANTED = 32  # objects that a scan looks for at least (of the least of 64 lanes)
_KEPT = 64  # and keeps at most
_FACTOR = 5.0  # between the epsilons of successive rounds
_FIRST = 0.04  # epsilon of the first round, as a share of the largest distance


@njit(cache=True, boundscheck=False, error_model="numpy")
def _bar(low, wanted):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # a value that about `wanted` of the 64 finite values of low, or all, do not exceed
    bottom, top = low[0], low[0]
    for lane in range(LANES):
        if low[lane] < np.inf:
            bottom = min(bottom, low[lane])
            top = low[lane] if top == np.inf else max(top, low[lane])
    for _ in range(8):
        middle = low.dtype.type(0.5) * (bottom + top)
        within = count(bits_at_most(low, 0, middle))
        if within < wanted:
            bottom = middle
        else:
            top = middle
            if within <= wanted + 4:
                break
    return top


@njit(cache=True, boundscheck=False, error_model="numpy")
def _scan(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    bidder, x, y, z, price, n, value, low, objects, costs
):
    # keeps the cheapest objects and what they cost without their price;
    # returns their number and the floor under all others
    low[:] = np.inf
    for at in range(0, x.size, LANES):
        appraise(x, y, z, price, at, bidder[0], bidder[1], bidder[2], value, low)
    floor = _bar(low, _WANTED)
    bar, kept, slot, dearest = floor, 0, 0, floor
    for at in range(0, x.size, LANES):
        bits = bits_at_most(value, at, bar)
        while bits != 0:
            j = at + first(bits)
            bits &= bits - 1
            if kept == objects.size:  # the dearest makes way
                if value[j] >= dearest:
                    floor = min(floor, value[j])
                    bits &= ~bits_equal(value, at, value[j])  # where points coincide, its equals are many
                    continue
                floor = min(floor, dearest)
                place = slot
            else:
                place = kept
                kept += 1
            dx, dy, dz = x[j] - bidder[0], y[j] - bidder[1], z[j] - bidder[2]
            objects[place] = j
            costs[place] = np.sqrt((dx * dx + dy * dy) + dz * dz)
            if kept == objects.size:
                slot = 0
                for k in range(1, kept):
                    if value[objects[k]] > value[objects[slot]]:
                        slot = k
                dearest = value[objects[slot]]
    if kept == n:
        floor = np.inf
    return kept, floor


@njit(cache=True, boundscheck=False, error_model="numpy")
def _cheapest(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    objects, costs, kept, price, floor
):
    # the cheapest kept object, its cost, and a floor under the cost of every other object
    best, second, at = price.dtype.type(np.inf), floor, -1
    for k in range(kept):
        cost = costs[k] + price[objects[k]]
        less = cost < best
        other = best if less else cost
        second = other if other < second else second
        at = objects[k] if less else at
        best = cost if less else best
    return at, best, second


@njit(cache=True, boundscheck=False, error_model="numpy")
def _certain_gap(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    held, objects, costs, kept, floor, price
):
    # mean over bidders of what the held object costs above a floor under all:
    # distance less dual value, with room for rounding
    total, reach = 0.0, 0.0
    for i in range(held.size):
        least, own = floor[i], price.dtype.type(0)
        for k in range(kept[i]):
            cost = costs[i, k] + price[objects[i, k]]
            own = cost if objects[i, k] == held[i] else own
            least = cost if cost < least else least
        total += own - least
        reach = max(reach, abs(price[held[i]]))
    return total / held.size + 16 * np.finfo(price.dtype).eps * (1 + reach)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _discontent(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    held, owner, objects, costs, kept, floor, price, epsilon, queue
):
    # frees the objects of all bidders that are not within epsilon of their best choice; queue:
    # the bidders without an object
    waiting = 0
    for i in range(held.size):
        if held[i] >= 0:
            _, best, second = _cheapest(objects[i], costs[i], kept[i], price, floor[i])
            own = best
            for k in range(kept[i]):
                if objects[i, k] == held[i]:
                    own = costs[i, k] + price[held[i]]
            if own <= min(best, second) + epsilon:
                continue
            owner[held[i]] = -1
            held[i] = -1
        queue[waiting] = i
        waiting += 1
    return waiting


@njit(cache=True, boundscheck=False, error_model="numpy")
def _auction(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    a, planes, price, limit, warm, bids, held
):
    # a (n, 3); planes (3, padded n) and price (padded n) of the objects;
    # returns the certain gap, infinite where the bids did not suffice
    n = held.size
    x, y, z = planes[0], planes[1], planes[2]
    owner, queue = np.full(n, -1, np.int64), np.empty(n, np.int64)
    objects, costs = np.empty((n, _KEPT), np.int32), np.empty((n, _KEPT), price.dtype)
    kept, floor = np.zeros(n, np.int64), np.full(n, -np.inf).astype(price.dtype)
    value, low = np.empty(x.size, price.dtype), np.empty(LANES, price.dtype)
    held[:] = -1
    epsilon = limit if warm else max(limit, price.dtype.type(_FIRST))
    while True:
        waiting = _discontent(held, owner, objects, costs, kept, floor, price, epsilon, queue)
        while waiting > 0:
            bids -= 1
            if bids < 0:
                return np.inf
            waiting -= 1
            i = queue[waiting]
            at, best, second = _cheapest(objects[i], costs[i], kept[i], price, floor[i])
            if at < 0 or best > floor[i]:
                kept[i], floor[i] = _scan(a[i], x, y, z, price, n, value, low, objects[i], costs[i])
                at, best, second = _cheapest(objects[i], costs[i], kept[i], price, floor[i])
            if second == np.inf:  # a single object
                second = best
            price[at] += (second - best) + epsilon
            loser = owner[at]
            owner[at], held[i] = i, at
            if loser >= 0:
                held[loser] = -1
                queue[waiting] = loser
                waiting += 1
        gap = _certain_gap(held, objects, costs, kept, floor, price)
        if gap <= limit:
            return gap
        half = price.dtype.type(0.5)
        epsilon = max(epsilon / price.dtype.type(_FACTOR), limit) if epsilon > limit else half * epsilon


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def auctions(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    a, b, limit, prices, warm, bids, out, gap, counter, threads
):
    """Bijections out (B, n) and their certain gaps (B,) float64 of a, b (B, n, 3),
    to within limit (B,); changes prices (B, n).

    No two points of a pair may be farther apart than 1.
    A pair that needs more than `bids` bids has an infinite gap and no bijection.
    """
    pairs, n = out.shape
    for _ in prange(threads):
        while True:
            pair = fetch_add(counter)
            if pair >= pairs:
                break
            wide = (n + LANES - 1) // LANES * LANES
            planes, price = np.zeros((3, wide), prices.dtype), np.full(wide, np.inf).astype(prices.dtype)
            for j in range(n):
                price[j] = prices[pair, j]
                for c in range(3):
                    planes[c, j] = b[pair, j, c]
            gap[pair] = _auction(a[pair], planes, price, limit[pair], warm, bids, out[pair])
            prices[pair] = price[:n]
