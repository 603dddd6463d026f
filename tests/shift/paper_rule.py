"""The published rule, as the released code has it but for the guard: slow and obvious."""

import numpy as np


def events(losses, window=5, mean_threshold=0.2, variance_threshold=0.1):
    """[(kind, step)], from the whole trace at once."""
    found, armed, last_mean, last_variance = [], True, 0.0, 0.0
    for step in range(len(losses)):
        recent = losses[max(0, step - window + 1) : step + 1]
        if len(recent) < window:
            continue
        mean, variance = np.mean(recent), np.var(recent)
        if armed:
            if mean < mean_threshold and variance < variance_threshold:
                found.append(("plateau", step))
                armed, last_mean, last_variance = False, mean, variance
        elif mean > last_mean + np.sqrt(last_variance):
            found.append(("peak", step))
            armed = True
    return found


def relative_events(losses, window=10, reference=30, rise=0.1, evidence=2.7, flat=0.05, spread=0.2):
    """[(kind, step, onset)] of the relative rule; every number from the whole trace anew."""
    found, falls, begin, sum_, onset, armed = [], [], 0, 0.0, 0, True

    def fall(level, upto, *, alone=False):
        since = 0.0
        if upto - begin >= window:
            since = max(0.0, np.mean(losses[begin : begin + window]) - level)
        return since if alone or not falls else max(since, np.median(falls[-5:]))

    for step, loss in enumerate(losses):
        compared = losses[max(begin, step - window - reference) : max(begin, step - window)]
        if len(compared) >= 10:
            middle = np.median(compared)
            scale = max(max(compared) - middle, rise * fall(middle, step))
            z = min(2.5, (loss - middle) / scale) if scale > 0 else (2.5 if loss > middle else 0.0)
            onset = step if sum_ == 0 else onset
            sum_ = max(0.0, sum_ + z - 0.5)
            if sum_ > evidence:
                found.append(("peak", step, onset))
                falls.append(fall(middle, step, alone=True))
                begin, sum_, armed = step + 1, 0.0, True
                continue
        upto = step + 1
        if armed and upto - begin >= 2 * window:
            last, earlier = losses[upto - window : upto], losses[upto - 2 * window : upto - window]
            size = fall(np.median(last), upto)
            flatness = np.mean(earlier) - np.mean(last)
            if size > 0 and flatness <= flat * size and np.std(last) <= spread * size:
                found.append(("plateau", step, step - window + 1))
                armed = False
    return found
