"""Splits customers into the fragments that real systems hold, with made-up identifiers, and measures how they were put together.

The mess is of the kinds one meets: identifiers missing or in another spelling, a second e-mail address, placeholders typed into
mandatory fields, a phone or tablet that a family shares, fragments that nothing links to anybody.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

GIVEN = "ada ben cleo dan eva finn gwen hugo ines jack kira leo mia noah olga paul rosa sam tara uwe vera will yara zoe".split()
FAMILY = "adams baker castro dietz evans fisher garcia hansen ivanov jensen keller lopez meyer novak owens petrov silva weber".split()
DOMAINS = ["example.com", "example.org", "example.net", "mail.example", "post.example"]
PLACEHOLDER_EMAILS = ["info@example.com", "noreply@example.com", "none@example.com"]
PLACEHOLDER_PHONE = "000-000-0000"
PLACEHOLDER_DEVICE = "00000000-0000-0000-0000-000000000000"

Strings = np.ndarray  # of str or None


@dataclass(frozen=True)
class Source:
    """One system. Every row of `table` is a fragment, `truth` the customer it really belongs to."""

    name: str
    relation: str
    key: str
    fields: Mapping[str, str]  # column → kind
    table: pd.DataFrame
    truth: np.ndarray


@dataclass(frozen=True)
class Scores:
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def split(customer_ids: Sequence[str], rng: np.random.Generator) -> list[Source]:
    """The CRM, which gives customers their ids, comes first; every customer has one row there."""
    count = len(customer_ids)
    ids = np.asarray(customer_ids, dtype=object)

    def chance(share: float, rows: int = count) -> np.ndarray:
        return rng.random(rows) < share

    email, second_email = emails(count, rng), emails(count, rng, suffix="x")
    phone, device = phones(count, rng), devices(count, rng)
    # Households of two: the second one gives the first one's phone, and both use the first one's tablet.
    order = rng.permutation(count)
    first, second = order[: count // 25], order[count // 25 : count // 25 * 2]
    phone[second] = phone[first]
    shared = chance(0.5, len(first))
    device[second[shared]] = device[first[shared]]

    crm_email = missing(np.where(chance(0.02), rng.choice(PLACEHOLDER_EMAILS, count), email), chance(0.12))
    crm_phone = missing(np.where(chance(0.02), PLACEHOLDER_PHONE, phone), chance(0.30))
    crm = pd.DataFrame({"crm_id": ids, "email": crm_email, "phone": crm_phone})

    # Some have no profile, some two.
    who = np.sort(np.concatenate([np.flatnonzero(chance(0.72)), np.flatnonzero(chance(0.10))]))
    rows = len(who)
    web_email = np.where(chance(0.15, rows), second_email[who], email[who])
    web_email = missing(respelled_email(web_email, rng), chance(0.12, rows))
    web_device = np.where(chance(0.01, rows), PLACEHOLDER_DEVICE, device[who])
    web = pd.DataFrame(
        {
            "profile_id": keys("w", rows, rng),
            "email": web_email,
            "device_id": missing(web_device, chance(0.2, rows)),
            "customer_number": missing(ids[who], chance(0.8, rows)),
        }
    )

    has_app = np.flatnonzero(chance(0.45))
    rows = len(has_app)
    app = pd.DataFrame(
        {
            "install_id": keys("i", rows, rng),
            "device_id": device[has_app],
            "phone": missing(respelled_phone(phone[has_app]), chance(0.35, rows)),
        }
    )
    number = "external_id:crm"
    return [
        Source("crm", "crm_contacts", "crm_id", {"crm_id": number, "email": "email", "phone": "phone"}, crm, ids),
        Source(
            "web", "web_profiles", "profile_id",
            {"email": "email", "device_id": "device_id", "customer_number": number}, web, ids[who],
        ),
        Source(
            "app", "app_installs", "install_id",
            {"device_id": "device_id", "phone": "phone"}, app, ids[has_app],
        ),
    ]  # fmt: skip


def emails(count: int, rng: np.random.Generator, suffix: str = "") -> Strings:
    given, family, domain = (rng.choice(words, count) for words in (GIVEN, FAMILY, DOMAINS))
    return objects(f"{g}.{f}{n}{suffix}@{d}" for n, (g, f, d) in enumerate(zip(given, family, domain)))


def phones(count: int, rng: np.random.Generator) -> Strings:
    """Distinct numbers of the range 555-0100 to 555-0199, which is reserved for fiction, in made-up area codes."""
    numbers = rng.permutation(max(count, 80_000))[:count]
    return objects(f"+1 {200 + n // 100} 555 01{n % 100:02d}" for n in numbers)


def devices(count: int, rng: np.random.Generator) -> Strings:
    return objects(f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in (rng.bytes(16).hex() for _ in range(count)))


def keys(letter: str, count: int, rng: np.random.Generator) -> Strings:
    """Keys in no order that would give the customer away."""
    return objects(f"{letter}-{n:06d}" for n in rng.permutation(count))


def respelled_email(values: Strings, rng: np.random.Generator) -> Strings:
    spellings = [str, str, str.upper, lambda v: f" {v}", lambda v: v.replace("@", "+shop@")]
    return objects(spellings[way](value) for way, value in zip(rng.integers(len(spellings), size=len(values)), values))


def respelled_phone(values: Strings) -> Strings:
    """+1 212 555 0123 as one types it in the country: (212) 555-0123."""
    return objects(f"({area}) {exchange}-{line}" for _, area, exchange, line in (value.split(" ") for value in values))


def missing(values: Strings, gone: np.ndarray) -> Strings:
    return np.where(gone, None, values.astype(object))


def objects(values) -> Strings:
    return np.array(list(values), dtype=object)


def pairwise_scores(truth: Sequence[Hashable], found: Sequence[Hashable]) -> Scores:
    """Precision and recall over pairs of fragments that are together in the truth and in what was found."""

    def pairs(labels) -> int:
        return sum(size * (size - 1) // 2 for size in Counter(labels).values())

    both, in_truth, in_found = pairs(zip(truth, found)), pairs(truth), pairs(found)
    return Scores(both / in_found if in_found else 1.0, both / in_truth if in_truth else 1.0)
