"""Which series of a study is which channel of a case: by rules over what a series is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from os.path import commonpath
from pathlib import Path

from nnunet_rs.core.dicom.private import is_private
from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue, fatal
from nnunet_rs.core.text import examples

EXAMPLE = "--channels T1='*t1*,!*gd*' FLAIR='*flair*'"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which series are a channel."""

    channel: str
    patterns: tuple[str, ...]  # lower case; one with ! in front must not hold, all others must

    def holds(self, series: Series) -> bool:
        """Whether a series is the channel."""
        texts = _texts(series)
        return all(
            not any(fnmatchcase(text, pattern[1:]) for text in texts)
            if pattern.startswith("!")
            else any(fnmatchcase(text, pattern) for text in texts)
            for pattern in self.patterns
        )


@dataclass(frozen=True, slots=True)
class Study:
    """Series that are the channels of one case."""

    name: str
    channels: tuple[Series | None, ...]  # in the order of the rules; None: there is none
    issues: tuple[Issue, ...] = ()  # fatal: a channel that is missing, or that several series might be


@dataclass(frozen=True, slots=True)
class Studies:
    """Cases made of series."""

    channels: tuple[str, ...]  # names
    cases: tuple[Study, ...]
    rest: tuple[Series, ...]  # of no channel

    def ordered(self, wanted: Sequence[str]) -> Studies:
        """Return the channels in the order of a model's, where they have the same names; else as they are.

        Raises
        ------
        DatasetError
            Another number of channels.
        """
        if len(wanted) != len(self.channels):
            raise DatasetError(
                f"{len(self.channels)} channels are given ({', '.join(self.channels)}), the model takes {len(wanted)} "
                f"({', '.join(wanted)}); say which series each of them is: {EXAMPLE}"
            )
        ours = [name.casefold() for name in self.channels]
        if sorted(ours) != sorted(name.casefold() for name in wanted) or len(set(ours)) < len(ours):
            return self
        order = [ours.index(name.casefold()) for name in wanted]
        cases = tuple(Study(one.name, tuple(one.channels[i] for i in order), one.issues) for one in self.cases)
        return Studies(tuple(wanted), cases, self.rest)


# ---- rules -----------------------------------------------------------------------------------------------------------


def read_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Read rules as NAME=PATTERN[,PATTERN ...].

    Raises
    ------
    DatasetError
        A rule is malformed, or a channel has two.
    """
    rules = []
    for text in texts:
        name, given, patterns = text.partition("=")
        found = tuple(_pattern(pattern) for pattern in patterns.split(",") if pattern.strip(" !"))
        if not (name.strip() and given and found):
            raise DatasetError(f"channel {text!r}: is no NAME=PATTERN; write {EXAMPLE}")
        rules.append(Rule(name.strip(), found))
    names = [rule.channel.casefold() for rule in rules]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DatasetError(f"channel {twice[0]}: has several rules; write one, its patterns joined by commas")
    return tuple(rules)


def _pattern(text: str) -> str:
    """Return a pattern without the spaces around it, and behind its !."""
    pattern = text.strip().lower()
    return f"!{pattern[1:].lstrip()}" if pattern.startswith("!") else pattern


def by_rules(rules: Sequence[Rule], series: Sequence[Series], root: Path) -> Studies:
    """Put the series of each study that are channels together as a case; `root` is what the user named."""
    chosen = [one for one in series if any(rule.holds(one) for rule in rules)]
    names = study_names(series)
    studies = _by_study(chosen)
    cases = [_study(names[study], rules, some, root) for study, some in studies.items()]
    rest = tuple(one for one in series if one not in chosen)
    return Studies(tuple(rule.channel for rule in rules), tuple(cases), rest)


def _study(name: str, rules: Sequence[Rule], series: Sequence[Series], root: Path) -> Study:
    channels: list[Series | None] = []
    issues: list[Issue] = []
    for rule in rules:
        fitting = [one for one in series if rule.holds(one)]
        usable = [one for one in fitting if not fatal(one.issues)] or fitting
        channels.append(usable[0] if len(usable) == 1 else None)
        if not usable:
            value = f"no series is channel {rule.channel}; there are {examples([_described(one) for one in series])}"
            issues.append(Issue(root, "channel-missing", value, "give all channels, or another rule", name))
        elif len(usable) > 1:
            value = f"channel {rule.channel} might be {examples([_described(one) for one in usable])}"
            advice = "narrow the rule, as with ,!*text*, or give --series-table"
            issues.append(Issue(root, "channel-twice", value, advice, name))
    return Study(name, tuple(channels), tuple(issues))


def _texts(series: Series) -> tuple[str, ...]:
    """Return what patterns are held against, lower case."""
    origin = series.origin
    described = f"{origin.description} ({series.part})" if series.part else origin.description
    texts = (origin.modality, described, origin.description, origin.protocol, origin.sequence, series.part, series.name)
    return tuple(text.lower() for text in (*texts, origin.number, origin.series) if text)


def _described(series: Series) -> str:
    origin = series.origin
    return " ".join(
        filter(None, (series.name, origin.modality, origin.description, series.part and f"({series.part})"))
    )


def study_names(series: Iterable[Series]) -> dict[str, str]:
    """Name studies by the folder that holds their series and no other's, or by a hash of their UID.

    No name holds a word of the patient's name or ID.
    """
    studies = _by_study(series)
    homes = {study: Path(commonpath([_home(one) for one in some])) for study, some in studies.items()}
    names = {study: _name(some, homes[study]) for study, some in studies.items()}
    taken = [name.lower() for name in names.values()]
    within = [str(home) for home in homes.values()]
    return {
        study: name if name and taken.count(name.lower()) == 1 and _alone(homes[study], within) else _hashed(study)
        for study, name in names.items()
    }


def study_of(series: Series) -> str:
    """Return what tells a study from others: its UID; where an anonymiser left that out, its frame of reference."""
    return series.origin.study or series.origin.frame_of_reference or str(_home(series).parent)


def _by_study(series: Iterable[Series]) -> Mapping[str, list[Series]]:
    studies: dict[str, list[Series]] = {}
    for one in series:
        studies.setdefault(study_of(one), []).append(one)
    return studies


def _home(series: Series) -> Path:
    return series.place.parent if series.place.is_file() else series.place


def _alone(home: Path, others: Sequence[str]) -> bool:
    """Whether no other study lies in a folder or below it."""
    return sum(Path(other).is_relative_to(home) for other in others) == 1


def _name(series: Sequence[Series], home: Path) -> str:
    shown = series[0].shown
    called = shown.named if home == shown.root else home
    name = re.sub(r"[^\w.-]+", "_", called.stem if called.is_file() else called.name).strip("._")
    personal = shown.personal.union(*(one.origin.personal for one in series))
    generic = name.lower() in ("dicom", "dcm", "images", "")
    return "" if generic or is_private(name, personal) else name


def _hashed(study: str) -> str:
    return f"study_{sha256(study.encode()).hexdigest()[:8]}"
