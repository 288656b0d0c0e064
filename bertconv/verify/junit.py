"""A verification as JUnit XML, which CI systems show test by test.

The format is that of Ant's JUnit task as Jenkins and GitLab read it: testsuite, testcase, failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from bertconv.text import printable
from bertconv.verify.parity import Parity
from bertconv.verify.places import MODULE


def junit_report(parity: Parity) -> str:
    """One case per tensor, per output and element type, per gradient, and one each for configs and what stands beside.

    A part of the model that was left out is a skipped one.
    """
    cases = list(_cases(parity))
    suite = ET.Element(
        "testsuite",
        name=printable(f"bertconv verify {parity.a.given} {parity.b.given}"),
        tests=str(len(cases) + len(parity.omitted)),
        failures=str(sum(bool(failure) for _, _, failure in cases)),
        errors="0",
        skipped=str(len(parity.omitted)),
        time=f"{parity.seconds:.3f}",
    )
    text = "\n".join(map(printable, parity.failure_text().split("\n")))  # XML has no way to write control characters
    for kind, name, failure in cases:
        case = ET.SubElement(suite, "testcase", classname=f"bertconv.{kind}", name=printable(name))
        if failure:
            ET.SubElement(case, "failure", message=printable(failure), type="ParityError").text = text
    for name in parity.omitted:
        case = ET.SubElement(suite, "testcase", classname="bertconv.weights", name=printable(name))
        ET.SubElement(case, "skipped", message="a part of the model that no table knows: left out, not compared")
    ET.indent(suite)
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return f"{document.decode()}\n"


def _cases(parity: Parity) -> Iterator[tuple[str, str, str]]:
    """Kind, name, and what is wrong ("" when nothing is)."""
    wrong = ", ".join(f"{one.key} is {one.a!r} in A and {one.b!r} in B" for one in parity.config)
    yield "config", "config", wrong
    for name, aspect in parity.aspects.items():
        if aspect.state != "not compared":
            yield name, name, "" if aspect.ok else "; ".join(aspect.lines())
    for tensor in parity.tensors:
        elements = f": {tensor.differing:,} elements" if tensor.differing else ""
        yield "weights", tensor.id, "" if tensor.ok else f"{tensor.state}{elements}"
    for one in parity.measurements:
        if one.kind != MODULE:
            yield f"outputs.{one.dtype}", one.place, "" if one.ok else f"error {one.b:.2e}, limit {one.limit:.2e}"
    for gradient in parity.gradients:
        failure = "" if gradient.ok else f"error {gradient.error:.2e}, limit {gradient.limit:.2e}"
        yield "gradients.float64", gradient.id, failure
