"""Find the end of a JSON value in a text that arrives in pieces."""


class JsonScanner:
    """Follow the brackets and strings of one JSON object or array.

    It finds where the value ends; whether it is valid is for a parser to say.
    """

    def __init__(self) -> None:
        """Start before the value, which must begin with a bracket."""
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def find_end(self, text: str, start: int) -> int | None:
        """Return the index after the value's last bracket, None if the text ends before it.

        Scans from `start` to the end of the text; the next call continues there.
        """
        for index in range(start, len(text)):
            character = text[index]
            if self._in_string:
                self._follow_string(character)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return index + 1
        return None

    def _follow_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False
