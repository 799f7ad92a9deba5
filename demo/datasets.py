"""Two real, randomised marketing tests, as the warehouse of whoever ran them would hold them.

The Hillstrom e-mail test is not part of this project: it is read from the file that HILLSTROM names, or else from its
author's address. Failing both, the crop-insurance experiment that the package `causaldata` ships takes its place.
"""

import io
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

NO_SEND = "no_send"

HILLSTROM_ADDRESS = (
    "http://www.minethatdata.com/Kevin_Hillstrom_MineThatData_E-MailAnalytics_DataMiningChallenge_2008.03.20.csv"
)
HILLSTROM_ARMS = {"Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email", "No E-Mail": NO_SEND}
HILLSTROM_RATES = {"Mens E-Mail": 0.1828, "Womens E-Mail": 0.1514, "No E-Mail": 0.1062}
DOWNLOAD_SECONDS = 20


class DatasetError(Exception):
    """A file that the user named cannot be used."""


@dataclass(frozen=True)
class Action:
    dimensions: Mapping[str, str]
    customer_reason: str


@dataclass(frozen=True)
class MarketingTest:
    """A randomised test: one row per customer in all its columns."""

    title: str
    origin: str
    caveat: str
    campaign: str
    goal: str
    actions: Mapping[str, Action]
    customers: pd.DataFrame  # features, indexed by customer id
    assigned: np.ndarray  # name of the action, or no_send
    responded: np.ndarray  # bool
    unit: np.ndarray  # what belongs together: halves never split a unit

    @property
    def propensity(self) -> float:
        """Every arm, the one without a send included, was equally likely."""
        return 1 / (1 + len(self.actions))

    def halves(self, rng: np.random.Generator) -> np.ndarray:
        """'A' or 'B' for each customer, about half of the units each."""
        units, of_customer = np.unique(self.unit, return_inverse=True)
        in_a = rng.permutation(len(units)) < len(units) / 2
        return np.where(in_a[of_customer], "A", "B")


def load(say: Callable[[str], None] = print) -> MarketingTest:
    """The best test to be had.

    Raises DatasetError if HILLSTROM names a file that is not the Hillstrom test.
    """
    path = os.environ.get("HILLSTROM")
    if path:
        return hillstrom(read_hillstrom(Path(path).expanduser()), f"the file {path}")
    say("HILLSTROM=path is not set: trying its author's address …")
    try:
        return hillstrom(check_hillstrom(pd.read_csv(io.BytesIO(download(HILLSTROM_ADDRESS)))), HILLSTROM_ADDRESS)
    except (OSError, ValueError, DatasetError) as error:
        say(f"not to be had from there ({error})")
    return crop_insurance()


def download(address: str) -> bytes:
    """All of it, or an OSError after DOWNLOAD_SECONDS."""
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    content = bytearray()
    with urllib.request.urlopen(address, timeout=5) as response:
        while chunk := response.read(1 << 16):
            content += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"still downloading after {DOWNLOAD_SECONDS} s")
    return bytes(content)


# --- Hillstrom -------------------------------------------------------------------------------------------------------


def read_hillstrom(path: Path) -> pd.DataFrame:
    try:
        return check_hillstrom(pd.read_csv(path))
    except DatasetError as error:
        raise DatasetError(f"{path} is not the Hillstrom e-mail test: {error}") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as csv: {error}") from None


def check_hillstrom(table: pd.DataFrame) -> pd.DataFrame:
    """Recognises the test by its content: copies differ in bytes, in order and in the name of the arm's column."""
    table = table.rename(columns={"segment": "treatment"})
    columns = (
        "recency history_segment history mens womens zip_code newbie channel treatment visit conversion spend".split()
    )
    if missing := [column for column in columns if column not in table]:
        raise DatasetError(f"column {missing[0]} is missing")
    if len(table) != 64_000:
        raise DatasetError(f"{len(table)} rows, not 64 000")
    arms = table.groupby("treatment")["visit"].agg(["size", "mean"])
    if set(arms.index) != set(HILLSTROM_ARMS):
        raise DatasetError(f"arms {', '.join(map(str, arms.index))}")
    for arm, (size, rate) in arms.iterrows():
        if not (21_000 < size < 21_700 and abs(rate - HILLSTROM_RATES[arm]) < 5e-4):
            raise DatasetError(f"{size:.0f} customers with a visit rate of {rate:.2%} in arm {arm}")
    return table


def hillstrom(table: pd.DataFrame, origin: str) -> MarketingTest:
    customers = pd.DataFrame(
        {
            "recency": table["recency"],
            "history": table["history"],
            "history_segment": table["history_segment"],
            "mens": table["mens"].astype(bool),
            "womens": table["womens"].astype(bool),
            "zip_code": table["zip_code"],
            "newbie": table["newbie"].astype(bool),
            "purchase_channel": table["channel"],
        }
    )
    customers.index = customer_ids(len(table))
    return MarketingTest(
        title="the Hillstrom e-mail test: 64 000 customers, randomised to men's e-mail, women's e-mail or none",
        origin=origin,
        caveat="The file says who visited within two weeks, not when: times of visits are made up.",
        campaign="email_test",
        goal="visit",
        actions={
            "mens_email": Action({"message": "mens", "channel": "email"}, "You have bought from us before."),
            "womens_email": Action({"message": "womens", "channel": "email"}, "You have bought from us before."),
        },
        customers=customers,
        assigned=table["treatment"].map(HILLSTROM_ARMS).to_numpy(str),
        responded=table["visit"].to_numpy(bool),
        unit=np.arange(len(table)),
    )


# --- crop insurance --------------------------------------------------------------------------------------------------


def crop_insurance() -> MarketingTest:
    """Cai, De Janvry, Sadoulet (2015), Social Networks and the Decision to Insure."""
    from causaldata import social_insure

    table = social_insure.load_pandas().data
    customers = pd.DataFrame(
        {
            "age": table["age"],
            "household_size": table["agpop"],
            "rice_area": table["ricearea_2010"],
            "expected_disaster": table["disaster_prob"],
            "male_head": table["male"].map({0.0: False, 1.0: True}),
            "literate": table["literacy"].map({0.0: False, 1.0: True}),
            "risk_aversion": table["risk_averse"],
            "village_take_up": table["pre_takeup_rate"],
        }
    )
    customers.index = customer_ids(len(table))
    arms = np.array([[NO_SEND, "brief_opt_out"], ["intensive_opt_in", "intensive_opt_out"]])
    reason = "Your village can insure its rice this season."
    return MarketingTest(
        title="a crop-insurance experiment: 1 410 households, randomised to brief or intensive session × opt in or out",
        origin="the package causaldata",
        caveat="Opting in or out was drawn per village; intervals take households as independent: they are too narrow.",
        campaign="insurance_test",
        goal="purchase",
        # A brief session where one opts in is what every household gets anyway: it stands for no-send.
        actions={
            "brief_opt_out": Action({"message": "brief", "offer": "opt_out"}, reason),
            "intensive_opt_in": Action({"message": "intensive", "offer": "opt_in"}, reason),
            "intensive_opt_out": Action({"message": "intensive", "offer": "opt_out"}, reason),
        },
        customers=customers,
        assigned=arms[table["intensive"], table["default"]],
        responded=table["takeup_survey"].to_numpy(bool),
        unit=table["address"].to_numpy(str),
    )


def customer_ids(count: int) -> pd.Index:
    return pd.Index([f"c-{number:05d}" for number in range(1, count + 1)], name="customer_id")
