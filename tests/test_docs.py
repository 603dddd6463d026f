"""The examples of the guides are run as they stand, each going on where the one before ended."""

import re
from pathlib import Path

SURGERY = (Path(__file__).parents[1] / "docs" / "surgery.md").read_text(encoding="utf-8")


def test_the_examples_of_the_guide_to_surgery_run() -> None:
    names: dict[str, object] = {}
    promised = 0
    for example in re.findall(r"```python\n(.*?)```", SURGERY, flags=re.DOTALL):
        exec(compile(example, "surgery.md", "exec"), names)
        for line in example.splitlines():
            promise = re.fullmatch(r"(\S[^#]*?)\s+# ([\d(][\d\", ()]*)", line)
            if promise and "=" not in promise[1]:  # a value, and what it is
                assert eval(promise[1], names) == eval(promise[2])
                promised += 1
    assert promised == 3
    assert names["structure"].groups["0"].width == 3  # 4 and 2 fresh, less 2, less 1
    assert (names["net"][0].out_features, names["net"][1].small) == (12, 5e-7)
    assert "with the plan" in str(names["trial"])
