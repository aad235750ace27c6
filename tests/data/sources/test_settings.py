from __future__ import annotations

import pytest

from pbrlib.data.sources.settings import flag, joined, read_settings
from pbrlib.errors import ConfigError

READERS = {"path": str, "size": int, "share": float, "keep": flag, "names": joined}
EXAMPLE = "kind:path=/data"


def read(text: str) -> dict[str, object]:
    return read_settings(text, readers=READERS, example=EXAMPLE)


def test_values_are_read_by_key_whatever_they_contain() -> None:
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
        ("kind:pth=/a", r"kind:pth=/a: pth is no setting of kind\. Did you mean path\?"),
        ("kind:zzz=/a", r"zzz is no setting of kind\. Use path, size, share, keep, names\."),
        ("kind:/a/b.x", r"/a/b\.x is no setting of kind"),
        ("kind:path=a,path=b", r"path is given twice\. Leave one of them\."),
        ("kind:path=a,size=3.5", r"size cannot be '3\.5'\. Use a whole number\."),
        ("kind:path=a,share=x", r"share cannot be 'x'\. Use a number\."),
        ("kind:path=a,keep=1", r"keep cannot be '1'\. Use true or false\."),
        ("kind:size=3", r"lacks path\. Write kind:path=/data\."),
    ],
)
def test_a_mistake_is_named_with_a_way_out(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text)
