from __future__ import annotations

import pytest

from pbrlib.data.sources.settings import parse_flag, read_settings, split_list
from pbrlib.errors import ConfigError

READERS = {"path": str, "size": int, "share": float, "keep": parse_flag, "names": split_list}
EXAMPLE = "kind:path=/data"


def read(text: str) -> dict[str, object]:
    return read_settings(text, readers=READERS, example=EXAMPLE)


def test_values_are_parsed_by_key() -> None:
    assert read("kind:path=/a:b=c/*.x, size=3,share=0.5,keep=TRUE,names=a+b") == {
        "path": "/a:b=c/*.x",
        "size": 3,
        "share": 0.5,
        "keep": True,
        "names": ("a", "b"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind:pth=/a", r"kind:pth=/a: got pth; expected a setting of kind\. Did you mean path\?"),
        ("kind:zzz=/a", r"got zzz; expected a setting of kind\. Use path, size, share, keep, names\."),
        ("kind:/a/b.x", r"got /a/b\.x; expected a setting of kind"),
        ("kind:path=a,path=b", r"got path twice; expected it once\. Remove one of them\."),
        ("kind:path=a,size=3.5", r"size: got '3\.5'; expected a whole number\."),
        ("kind:path=a,share=x", r"share: got 'x'; expected a number\."),
        ("kind:path=a,keep=1", r"keep: got '1'; expected true or false\."),
        ("kind:size=3", r"got no path; expected a source like kind:path=/data\."),
    ],
)
def test_an_invalid_setting_is_an_error_with_a_remedy(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text)
