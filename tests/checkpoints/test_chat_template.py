"""Chat templates of untrusted models."""

from pathlib import Path

import pytest

from slmflow.checkpoints import chat_template
from slmflow.errors import UserError


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "more than 200,000 iterations",
        ),
        ("{{ 'a' * 10 ** 12 }}", "of size 1e"),
        ("{{ cycler.__init__.__globals__ }}", "is unsafe"),
        ("{% if true %}" * 3000, "template is invalid"),
    ],
    ids=["loops", "size", "system", "nested"],
)
def test_harmful_template_is_rejected(tmp_path: Path, template: str, message: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=message):
        chat_template.check(tmp_path, "model.path='/m'")
