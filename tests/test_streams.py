"""Threads keep the order, stay within their window, and hand errors on in turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ktn_jax.streams import ordered


def test_results_keep_the_order_whoever_is_first_done():
    with ThreadPoolExecutor(4) as pool:
        slow_first = ordered(pool, lambda n: time.sleep(0.02 / (n + 1)) or n, range(20), 6)
        assert list(slow_first) == list(range(20))


def test_no_more_items_are_drawn_than_the_window_holds():
    drawn, finished, most = [], [], 0
    lock = threading.Lock()

    def items():
        for n in range(50):
            drawn.append(n)
            yield n

    with ThreadPoolExecutor(3) as pool:
        for n in ordered(pool, lambda n: n, items(), ahead=5):
            with lock:
                finished.append(n)
            most = max(most, len(drawn) - len(finished))
    assert finished == list(range(50)) and most == 4  # and one handed out


def test_an_error_comes_after_the_results_before_it():
    got = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        for value in ordered(pool, lambda n: 6 // n, [3, 2, 0, 1], ahead=4):
            got.append(value)
    assert got == [2, 3]
