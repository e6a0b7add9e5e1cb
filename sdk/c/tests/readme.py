"""The structs of the README's example in C# are those of the header: the same fields, in their order."""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
#: What a field of C is in C#.
TYPES = {
    "uint8_t": "byte",
    "bool": "byte",
    "uint16_t": "ushort",
    "uint32_t": "uint",
    "enum vl_event_type": "int",
    "uint64_t": "ulong",
    "int64_t": "long",
    "size_t": "UIntPtr",
}


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def of_header(text: str, struct: str) -> list[tuple[str, str]]:
    body = re.search(rf"typedef struct {struct} {{\n(.*?)\n}} {struct};", text, re.S)
    assert body, f"the header has no {struct}"
    lines = [line.strip().rstrip(";") for line in body[1].splitlines() if not line.strip().startswith("//")]
    fields = []
    for line in lines:
        kind, name = re.fullmatch(r"(.*?)(\w+)", line).groups()
        kind = kind.strip()
        fields.append(("IntPtr" if kind.endswith("*") else TYPES.get(kind.removeprefix("const "), kind), camel(name)))
    return fields


def of_readme(text: str, struct: str) -> list[tuple[str, str]]:
    body = re.search(rf"struct {struct} {{[^\n]*\n(.*?)\n  }}", text, re.S)
    assert body, f"the README has no {struct}"
    declared = re.findall(r"public (\w+) ([\w, ]+);", body[1])
    return [(kind, name) for kind, names in declared for name in names.split(", ")]


def main() -> int:
    header = (HERE / "../include/voltlane.h").read_text()
    readme = (HERE / "../README.md").read_text()
    is_right = True
    for ours, theirs, is_whole in [("vl_client_options", "Options", True), ("vl_event", "Event", False)]:
        want, have = of_header(header, ours), of_readme(readme, theirs)
        if have != (want if is_whole else want[: len(have)]):
            print(f"README.md: {theirs} is not {ours}:\n{have}\n{want}")
            is_right = False
    return 0 if is_right else 1


sys.exit(main())
