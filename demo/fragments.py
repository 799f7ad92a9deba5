"""Splits customers into the fragments that real systems hold; measures how well they are put together again.

The identifiers are made up. Their mess is of the kinds one meets: missing or in another spelling, a second e-mail
address, placeholders in mandatory fields, a phone or tablet that a family shares, fragments that nothing links to any.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

GIVEN = "ada ben cleo dan eva finn gwen hugo ines jack kira leo mia noah olga paul rosa sam tara uwe vera zoe".split()
FAMILY = "adams baker castro dietz evans fisher garcia hansen jensen keller lopez meyer novak owens silva weber".split()
DOMAINS = ["example.com", "example.org", "example.net", "mail.example", "post.example"]
PLACEHOLDERS = {
    "email": ["info@example.com", "noreply@example.com", "none@example.com"],
    "phone": ["000-000-0000"],
    "device_id": ["00000000-0000-0000-0000-000000000000"],
}

Strings = np.ndarray  # of str or None


@dataclass(frozen=True)
class Source:
    """One system. Every row of `table` is a fragment, `truth` the customer it really belongs to."""

    name: str
    relation: str
    key: str
    fields: Mapping[str, str]  # column → kind
    table: pd.DataFrame  # as the system holds it
    clean: pd.DataFrame  # the fields without placeholders, in one spelling
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
    email, second_email = emails(count, rng), emails(count, rng, suffix="x")
    phone, device = phones(count, rng), devices(count, rng)
    # Households of two: the second one gives the first one's phone, half of them use the first one's tablet.
    first, second = np.split(rng.permutation(count)[: count // 50 * 2], 2)
    phone[second] = phone[first]
    half = len(first) // 2
    device[second[:half]] = device[first[:half]]

    def some(values: Strings, share: float) -> Strings:
        return np.where(rng.random(len(values)) < share, values, None)

    def source(name, relation, key, keys, who, fields, columns) -> Source:
        clean = pd.DataFrame(columns)
        table = clean.apply(lambda column: spoilt(column.to_numpy(object), fields[column.name], name, rng))
        return Source(name, relation, key, fields, table.assign(**{key: keys}), clean, ids[who])

    everybody = np.arange(count)
    # Some customers have no web profile, some two.
    on_web = np.sort(np.concatenate([np.flatnonzero(rng.random(count) < share) for share in (0.72, 0.10)]))
    in_app = np.flatnonzero(rng.random(count) < 0.45)
    web_email = np.where(rng.random(len(on_web)) < 0.12, second_email[on_web], email[on_web])
    number = "external_id:crm"
    return [
        source(
            "crm", "crm_contacts", "crm_id", ids, everybody,
            {"crm_id": number, "email": "email", "phone": "phone"},
            {"crm_id": ids, "email": some(email, 0.90), "phone": some(phone, 0.80)},
        ),
        source(
            "web", "web_profiles", "profile_id", keys("w", len(on_web), rng), on_web,
            {"email": "email", "device_id": "device_id", "customer_number": number},
            {
                "email": some(web_email, 0.92),
                "device_id": some(device[on_web], 0.85),
                "customer_number": some(ids[on_web], 0.35),
            },
        ),
        source(
            "app", "app_installs", "install_id", keys("i", len(in_app), rng), in_app,
            {"device_id": "device_id", "phone": "phone"},
            {"device_id": device[in_app], "phone": some(phone[in_app], 0.75)},
        ),
    ]


def spoilt(values: Strings, kind: str, system: str, rng: np.random.Generator) -> Strings:
    """Placeholders in a tenth of what is missing, and the system's own spelling."""
    if kind in PLACEHOLDERS:
        typed = rng.choice(PLACEHOLDERS[kind], len(values)).astype(object)
        values = np.where(np.equal(values, None) & (rng.random(len(values)) < 0.1), typed, values)
    if kind == "email" and system == "web":
        spellings = [str, str, str.upper, " {}".format, lambda value: value.replace("@", "+shop@")]
        ways = rng.integers(len(spellings), size=len(values))
        values = objects(value and spellings[way](value) for way, value in zip(ways, values))
    if kind == "phone" and system == "app":
        values = objects(value and as_dialled(value) for value in values)
    return values


def as_dialled(phone: str) -> str:
    """+1 212 555 0123 as one types it in the country: (212) 555-0123."""
    parts = phone.split(" ")
    return f"({parts[1]}) {parts[2]}-{parts[3]}" if phone.startswith("+1 ") else phone


def emails(count: int, rng: np.random.Generator, suffix: str = "") -> Strings:
    given, family, domain = (rng.choice(words, count) for words in (GIVEN, FAMILY, DOMAINS))
    return objects(f"{g}.{f}{n}{suffix}@{d}" for n, (g, f, d) in enumerate(zip(given, family, domain)))


def phones(count: int, rng: np.random.Generator) -> Strings:
    """Distinct numbers of the range 555-0100 to 555-0199, which is reserved for fiction, in made-up area codes."""
    numbers = rng.permutation(max(count, 80_000))[:count]
    return objects(f"+1 {200 + n // 100} 555 01{n % 100:02d}" for n in numbers)


def devices(count: int, rng: np.random.Generator) -> Strings:
    return objects(
        f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in (rng.bytes(16).hex() for _ in range(count))
    )


def keys(letter: str, count: int, rng: np.random.Generator) -> Strings:
    """Keys in no order that would give the customer away."""
    return objects(f"{letter}-{n:06d}" for n in rng.permutation(count))


def objects(values) -> Strings:
    return np.array(list(values), dtype=object)


def linked(sources: Sequence[Source]) -> list[int]:
    """For each fragment, the part of its customer that identifiers link it to: what a resolver can find at best."""
    nodes: dict[tuple, int] = {}
    edges, count = [], 0
    for source in sources:
        for column, kind in source.fields.items():
            for row, (customer, value) in enumerate(zip(source.truth, source.clean[column])):
                if value is not None:
                    edges.append((count + row, nodes.setdefault((customer, kind, value), len(nodes))))
        count += len(source.truth)
    fragment, value = np.array(edges).T
    graph = coo_array((np.ones(len(edges)), (fragment, value + count)), shape=(count + len(nodes),) * 2)
    return connected_components(graph, directed=False)[1][:count].tolist()


def pairwise_scores(truth: Sequence[Hashable], found: Sequence[Hashable]) -> Scores:
    """Precision and recall over pairs of fragments that are together in the truth and in what was found."""

    def pairs(labels) -> int:
        return sum(size * (size - 1) // 2 for size in Counter(labels).values())

    both, in_truth, in_found = pairs(zip(truth, found)), pairs(truth), pairs(found)
    return Scores(both / in_found if in_found else 1.0, both / in_truth if in_truth else 1.0)
