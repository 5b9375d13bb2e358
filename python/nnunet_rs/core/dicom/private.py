"""What is said of DICOM files without naming the patient: paths, names and descriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from nnunet_rs.core.issues import Issue

HIDDEN = "***"  # stands for what names the patient
_SHORT = 3  # letters, or digits, from which on a word counts within longer ones too
_SEPARATORS = re.compile(r"[\W_]+")


@lru_cache(maxsize=64)
def words_of(*texts: str) -> frozenset[str]:
    """Return the words of a patient's name and ID, lower case; lone letters are none."""
    found = (word for text in texts for word in _SEPARATORS.split(text.lower()))
    return frozenset(word for word in found if len(word) > 1)


def is_private(name: str, personal: frozenset[str]) -> bool:
    """Whether a name holds a word of the patient: as a word, or, of some length, within one (`JANEROE_CT`)."""
    lower = name.lower()
    if personal & set(_SEPARATORS.split(lower)):
        return True
    return any(word in lower for word in personal if len(word) >= _SHORT + word.isdigit())


@lru_cache(maxsize=256)
def without_private(text: str, personal: frozenset[str]) -> str:
    """Return a text whose words of the patient are hidden."""
    return re.sub(r"[^\W_]+", lambda word: HIDDEN if is_private(word[0], personal) else word[0], text)


@dataclass(frozen=True, slots=True)
class Shown:
    """How files below a folder are called: after the name that the user gave it, folders of a patient's name hidden."""

    root: Path  # where the files are
    named: Path  # what the user calls that: another path where a zip was unpacked
    personal: frozenset[str] = field(default=frozenset(), repr=False)  # words of every patient in the folder

    def path(self, path: Path) -> Path:
        """Return what a path is called."""
        if not path.is_relative_to(self.root):
            return path
        parts = path.relative_to(self.root).parts
        return self.named.joinpath(*(self._hidden(part) for part in parts))

    def issue(self, issue: Issue) -> Issue:
        """Return an issue that names its file so."""
        return replace(issue, file=self.path(issue.file))

    def _hidden(self, part: str) -> str:
        return HIDDEN if is_private(part, self.personal) else part
