"""Resolves a csv file by Splink on DuckDB, set up as an expert would, and prints seconds, peak memory and scores as JSON.

  python benches/identity/peer.py FILE.csv

The rows stand in a DuckDB table before the clock starts, as ours stand in Postgres. It runs from there to the table of clusters:
normalising, learning u from random pairs and m by expectation maximisation, blocking, predicting, clustering at 0.95. What
the best threshold of all would have given is worked out afterwards, with the truth at hand.
"""

import json
import logging
import math
import resource
import sys
import time
import warnings
from pathlib import Path

import duckdb
import nicknames
import numpy as np
import splink.comparison_level_library as levels
import splink.comparison_library as comparisons
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scores import scores
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

THREADS = 2
RANDOM_PAIRS = 1e6
CHOSEN = 0.95
#: Match weights (bits) of the thresholds among which the best is looked for.
TRIED = [-6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 17, 20]

#: How each column is normalised; {} is the raw text in lower case.
NORMAL = {
    "first_name": "regexp_replace(regexp_replace(strip_accents({}), '\\s[a-z]\\.?$', ''), '[^a-z -]', '', 'g')",
    "last_name": "regexp_replace(strip_accents({}), '[^a-z -]', '', 'g')",
    "email": "CASE WHEN {} NOT IN ('test@test.com', 'none@none.com') AND NOT regexp_matches({}, '^(info|sales|office)@') THEN {} END",
    "phone": "CASE WHEN regexp_replace({}, '[^0-9]', '', 'g') NOT IN ('0000000000', '9999999999', '1234567890') THEN right(regexp_replace({}, '[^0-9]', '', 'g'), 10) END",
    "dob": "CASE WHEN {} NOT IN ('1900-01-01', '1970-01-01') THEN {} END",
    "street": "regexp_replace(regexp_replace({}, ' apt [0-9]+$', ''), '[^a-z0-9 ]', '', 'g')",
    "city": "{}",
    "postcode": "{}",
    "company": "regexp_replace(strip_accents({}), ' (inc|llc|ltd|corp|gmbh|co)$', '')",
    "device_id": "{}",
    "soc_sec_id": "{}",
}
#: Columns of which each is compared where it is there; a rule is used if all of its columns are.
BLOCKING = [
    ["email"],
    ["phone"],
    ["device_id"],
    ["soc_sec_id"],
    ["first_name", "last_name"],
    ["last_name", "dob"],
    ["first_name", "dob"],
    ["last_name", "postcode"],
    ["email_local", "substr(last_name, 1, 1)"],
    ["substr(street, 1, 12)", "city"],
    ["substr(first_name, 1, 2)", "last_name", "company"],
]
#: Further rules for sets without mail addresses, phones and devices, which are small.
BLOCKING_WITHOUT_CONTACTS = [["dob"], ["first_name", "postcode"], ["last_name", "city"], ["street"]]
#: Pairs of which nearly all are matches, for the prior.
CERTAIN = [
    ["email", "last_name"],
    ["phone", "first_name"],
    ["device_id", "first_name"],
    ["soc_sec_id"],
    ["first_name", "last_name", "dob"],
    ["first_name", "last_name", "postcode"],
]
#: Pairs on which m is learned.
TRAINING = [["first_name", "last_name"], ["email"], ["dob", "last_name"], ["soc_sec_id"]]


def usable(rules: list, columns: set) -> list:
    """Rules of which all columns are there."""
    known = set(NORMAL) | {"email_local"}
    return [block_on(*rule) for rule in rules if all(c in columns for part in rule for c in known if c == part or f"({c}," in part)]


def prepare(database, columns: set) -> None:
    short = Path(nicknames.__file__).with_name("names.csv")
    roots = f"SELECT DISTINCT name1 AS root, name2 AS name FROM read_csv('{short}', header = true) WHERE relationship = 'has_nickname'"
    normal = [f"nullif(trim({NORMAL[column].replace('{}', f'lower(trim({column}))')}), '') AS {column}" for column in NORMAL if column in columns]
    database.execute(f"CREATE TABLE normal AS SELECT unique_id, {', '.join(normal)} FROM raw")
    database.execute(
        f"""CREATE TABLE forms AS WITH pairs AS ({roots}), all_names AS (SELECT name, root FROM pairs UNION SELECT root, root FROM pairs)
            SELECT name, list(DISTINCT root) AS roots FROM all_names GROUP BY name"""
    )
    local = ", split_part(n.email, '@', 1) AS email_local" if "email" in columns else ""
    database.execute(
        f"""CREATE TABLE ready AS SELECT n.*, coalesce(f.roots, CASE WHEN n.first_name IS NOT NULL THEN [n.first_name] END) AS roots{local}
            FROM normal n LEFT JOIN forms f ON f.name = n.first_name"""
    )


def compared(columns: set) -> list:
    """Comparisons of the columns that are there."""
    own = lambda name, of: comparisons.CustomComparison(output_column_name=name, comparison_levels=of)  # noqa: E731
    exact = lambda column: levels.ExactMatchLevel(column, term_frequency_adjustments=True)  # noqa: E731
    else_ = levels.ElseLevel
    first = [
        levels.NullLevel("first_name"),
        exact("first_name"),
        levels.CustomLevel("list_has_any(roots_l, roots_r)", "short form"),
        levels.JaroWinklerLevel("first_name", 0.92),
        levels.JaroWinklerLevel("first_name", 0.84),
        levels.CustomLevel(
            "least(length(first_name_l), length(first_name_r)) = 1 AND substr(first_name_l, 1, 1) = substr(first_name_r, 1, 1)", "initial"
        ),
        else_(),
    ]
    swapped = "substr(dob_l, 1, 4) = substr(dob_r, 1, 4) AND substr(dob_l, 6, 2) = substr(dob_r, 9, 2) AND substr(dob_l, 9, 2) = substr(dob_r, 6, 2)"
    birth = [
        levels.NullLevel("dob"),
        levels.ExactMatchLevel("dob"),
        levels.DamerauLevenshteinLevel("dob", 1),
        levels.CustomLevel(swapped, "day and month swapped"),
        levels.DamerauLevenshteinLevel("dob", 2),
        else_(),
    ]
    missing = " AND ".join(f"({column}_l IS NULL OR {column}_r IS NULL)" for column in ("street", "postcode", "city"))
    near = "jaro_winkler_similarity(street_l, street_r) >= 0.93"
    address = [
        levels.CustomLevel(missing, "missing").configure(is_null_level=True),
        levels.CustomLevel(f"{near} AND (postcode_l = postcode_r OR city_l = city_r)", "street and place"),
        levels.CustomLevel(near, "street"),
        exact("postcode"),
        exact("city"),
        else_(),
    ]
    all_of = {
        "first_name": own("first_name", first),
        "last_name": comparisons.JaroWinklerAtThresholds("last_name", [0.92, 0.84]).configure(term_frequency_adjustments=True),
        "email": own("email", [levels.NullLevel("email"), exact("email"), levels.LevenshteinLevel("email", 1), else_()]),
        "phone": comparisons.LevenshteinAtThresholds("phone", [1]).configure(term_frequency_adjustments=True),
        "dob": own("dob", birth),
        "street": own("address", address),
        "company": comparisons.JaroWinklerAtThresholds("company", [0.92]).configure(term_frequency_adjustments=True),
        "device_id": comparisons.ExactMatch("device_id").configure(term_frequency_adjustments=True),
        "soc_sec_id": comparisons.DamerauLevenshteinAtThresholds("soc_sec_id", [1, 2]),
    }
    return [comparison for column, comparison in all_of.items() if column in columns]


def main(path: str) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    database = duckdb.connect()
    database.execute(f"SET threads = {THREADS}; SET enable_progress_bar = false")
    database.execute(f"CREATE TABLE raw AS SELECT * FROM read_csv('{path}', header = true, all_varchar = true)")
    columns = {row[0] for row in database.execute("DESCRIBE raw").fetchall()}
    columns |= {"email_local"} if "email" in columns else set()

    start = time.perf_counter()
    prepare(database, columns)
    settings = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="unique_id",
        comparisons=compared(columns),
        blocking_rules_to_generate_predictions=usable(BLOCKING if "email" in columns else BLOCKING + BLOCKING_WITHOUT_CONTACTS, columns),
        retain_matching_columns=False,
        retain_intermediate_calculation_columns=False,
    )
    api = DuckDBAPI(connection=database)
    linker = Linker(api.register(database.table("ready")), settings)
    linker.training.estimate_probability_two_random_records_match(usable(CERTAIN, columns), recall=0.7)
    linker.training.estimate_u_using_random_sampling(max_pairs=RANDOM_PAIRS, seed=1)
    for rule in usable(TRAINING, columns):
        linker.training.estimate_parameters_using_expectation_maximisation(rule, estimate_without_term_frequencies=True)
    pairs = linker.inference.predict(threshold_match_probability=0.01)
    clusters = linker.clustering.cluster_pairwise_predictions_at_threshold(pairs, threshold_match_probability=CHOSEN)
    found = dict(database.sql(f"SELECT unique_id, cluster_id FROM {clusters.physical_name}").fetchall())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    people = dict(database.sql("SELECT unique_id, true_id FROM raw").fetchall())
    keys = list(people)
    truth = [people[key] for key in keys]
    at_chosen = scores(truth, [found[key] for key in keys])
    place = {key: number for number, key in enumerate(keys)}
    edges = database.sql(f"SELECT unique_id_l, unique_id_r, match_weight FROM {pairs.physical_name}").fetchall()
    left, right = (np.array([place[edge[side]] for edge in edges], dtype=np.int64) for side in (0, 1))
    weights = np.array([edge[2] for edge in edges])
    best = dict(at_chosen, threshold=math.log2(CHOSEN / (1 - CHOSEN)))
    for threshold in TRIED:
        kept = weights >= threshold
        graph = coo_matrix((np.ones(kept.sum(), dtype=np.int8), (left[kept], right[kept])), shape=(len(keys), len(keys)))
        tried = scores(truth, connected_components(graph, directed=False)[1].tolist())
        if tried["pairwise"] > best["pairwise"]:
            best = dict(tried, threshold=threshold)
    print(json.dumps({"seconds": seconds, "megabytes": peak, **at_chosen, "best": best}))


if __name__ == "__main__":
    main(sys.argv[1])
