"""Numbers rounded to few characters."""


def short(value: float, *, digits: int = 2) -> str:
    """Return a number in at most six characters, plus a sign.

    Args:
        value: The number.
        digits: Significant digits of numbers below 0.01.

    >>> [short(value) for value in (0, 950, 2_048, 12_500, 3_200_000, 0.25, 0.000123)]
    ['0', '950', '2,048', '12.5k', '3.2M', '0.25', '1.2e-4']
    >>> short(0.000123, digits=1), short(999.96), short(999_950)
    ('1e-4', '1,000', '1M')
    """
    size = abs(value)
    for limit, unit, letter in ((999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{value / unit:.3g}{letter}"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    if size >= 0.01:
        return f"{value:.3g}"
    return f"{value:.{digits - 1}e}".replace("e-0", "e-")
