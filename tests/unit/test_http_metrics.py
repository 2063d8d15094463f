"""Counters and histograms, as lines of the page that Prometheus reads."""

from __future__ import annotations

from headrace.http.metrics import Counter, Histogram, page


def test_a_counter_tells_each_combination_of_labels() -> None:
    counter = Counter(":a:b", ("model_name", "status"))
    counter.inc("m", "OK")
    counter.inc("m", "OK", by=2)
    counter.inc('q"\\', "NOT_FOUND")

    assert list(counter.lines()) == [
        "# TYPE :a:b counter",
        ':a:b{model_name="m",status="OK"} 3',
        ':a:b{model_name="q\\"\\\\",status="NOT_FOUND"} 1',
    ]
    assert counter.total() == 4


def test_a_histogram_counts_up_to_each_limit() -> None:
    histogram = Histogram(":h", ("model",), (1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 3.0, 100.0):
        histogram.observe(value, "m")

    assert list(histogram.lines()) == [
        "# TYPE :h histogram",
        ':h_bucket{model="m",le="1"} 1',
        ':h_bucket{model="m",le="2"} 2',
        ':h_bucket{model="m",le="4"} 3',
        ':h_bucket{model="m",le="+Inf"} 4',
        ':h_sum{model="m"} 104.5',
        ':h_count{model="m"} 4',
    ]


def test_a_page_has_the_lines_of_all() -> None:
    counter, histogram = Counter("c", ()), Histogram("h", (), (1.0,))
    counter.inc()
    histogram.observe(2)

    assert page([counter, histogram]).splitlines() == [
        "# TYPE c counter",
        "c{} 1",
        "# TYPE h histogram",
        'h_bucket{le="1"} 0',
        'h_bucket{le="+Inf"} 1',
        "h_sum{} 2",
        "h_count{} 1",
    ]
