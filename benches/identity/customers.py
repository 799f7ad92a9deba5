"""Messy customers whose truth is known: the same file for the same size and seed.

  python benches/identity/customers.py RECORDS SEED FILE.csv

Persons live in households, which share an address, a landline, often a family name, sometimes a mailbox and a tablet. Many have
an employer with a switchboard and role mailboxes. Each person left one record or several in five systems, each of which asks
for other fields, and people are called by short names, marry, move, change mailboxes, mistype, swap fields, and enter fillers.
"""

import csv
import datetime
import random
import sys
import unicodedata

COLUMNS = "unique_id system first_name last_name email phone dob street city postcode company device_id true_id".split()

#: Given names with short forms that their bearers use.
GIVEN = {
    name: short.split()
    for name, _, short in (
        entry.partition(":")
        for entry in """
Alexander:Alex Xander|Alexandra:Alex Sandra|Andrew:Andy Drew|Anthony:Tony|Barbara:Barb|Benjamin:Ben Benny|Catherine:Cathy Kate
Charles:Charlie Chuck|Christina:Chris Tina|Christopher:Chris|Daniel:Dan Danny|David:Dave|Deborah:Deb Debbie|Edward:Ed Ted
Elizabeth:Liz Beth Betty|Frederick:Fred|Gabriel:Gabe|Gregory:Greg|James:Jim Jimmy|Jennifer:Jen Jenny|Jessica:Jess|John:Jack
Jonathan:Jon|Joseph:Joe|Joshua:Josh|Katherine:Kathy Kate|Kenneth:Ken|Lawrence:Larry|Leonard:Leo Len|Margaret:Maggie Peggy
Matthew:Matt|Michael:Mike Mick|Nicholas:Nick|Patricia:Pat Trish|Patrick:Pat|Peter:Pete|Rebecca:Becky|Richard:Rick Dick
Robert:Bob Rob|Ronald:Ron|Samantha:Sam|Samuel:Sam|Stephanie:Steph|Steven:Steve|Susan:Sue|Theodore:Ted Theo|Thomas:Tom
Timothy:Tim|Victoria:Vicky|Vincent:Vince|William:Bill Will|Zachary:Zach|Aaron|Adam|Alice|Amanda|Amelia|Amy|Angela|Anna|Ashley|Ava
Brenda|Brian|Carol|Carlos|Chloé|Claire|Diane|Dylan|Eleanor|Emily|Emma|Eric|Ethan|Eva|Evelyn|Fatima|Felix|Fiona|Frank|François|George
Grace|Hannah|Harold|Helen|Henry|Hugo|Ian|Irene|Isabel|Ivan|Jacob|Jasmine|Jason|Jürgen|José|Juan|Julia|Karen|Karl|Kevin|Kyle|Laura
Lauren|Liam|Linda|Lisa|Logan|Louis|Lucas|Lucy|Luis|Marcus|Maria|María|Mark|Martha|Martin|Mary|Megan|Mia|Nancy|Naomi|Nathan|Noah
Nora|Oliver|Olivia|Oscar|Pablo|Paul|Philip|Priya|Rachel|Ralph|René|Rosa|Ruth|Ryan|Sandra|Sarah|Scott|Sean|Simon|Sofía|Sophia
Søren|Tyler|Ursula|Valerie|Walter|Wendy|Yusuf""".replace("\n", "|").split("|")
        if entry
    )
}
FAMILY = """Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson Anderson Thomas
Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen King Wright Scott
Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz
Parker Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly
Howard Ramos Kim Cox Ward Richardson Watson Brooks Chavez Wood Bennett Gray Mendoza Ruiz Hughes Price Alvarez Castillo Sanders Patel
Myers Long Ross Foster Müller Schröder Nuñez Peña O'Brien O'Connor D'Angelo Sørensen Lefèvre Kowalski Novák Weiß""".split()
ONSETS = "b br c cl d dr f fl g gr h j k kl l m n p pr r s sh st t tr v w z".split()
MIDDLES = "a e i o u ai ea ou al er or an el in".split()
ENDINGS = "berg by cott dale den dorf feld ford ham ing land ley man mond ner ridge rod sen ski son ster ton vic well wick worth".split()
ROADS = "Street Avenue Road Drive Lane Court Place Boulevard".split()
SHORT_ROADS = {"Street": "St", "Avenue": "Ave", "Road": "Rd", "Drive": "Dr", "Lane": "Ln", "Court": "Ct", "Place": "Pl", "Boulevard": "Blvd"}
TRADES = "Foods Systems Media Energy Bank Design Logistics Health Motors Partners Labs Works".split()
FORMS = ["Inc", "LLC", "Ltd", "Corp", "GmbH", ""]
PROVIDERS, PROVIDER_WEIGHTS = "gmail.com yahoo.com outlook.com hotmail.com icloud.com aol.com proton.me".split(), [45, 16, 13, 11, 8, 4, 3]

#: How likely each system has a field, and how likely its mail address and phone are those of the employer.
SYSTEMS = {
    "shop": dict(first_name=0.92, last_name=0.88, email=0.94, phone=0.40, dob=0.22, street=0.28, company=0.05, device_id=0.80, at_work=0.04),
    "app": dict(first_name=0.88, last_name=0.80, email=0.82, phone=0.70, dob=0.35, street=0.10, company=0.00, device_id=0.96, at_work=0.03),
    "sales": dict(first_name=0.98, last_name=0.99, email=0.80, phone=0.76, dob=0.20, street=0.55, company=0.80, device_id=0.00, at_work=0.55),
    "desk": dict(first_name=0.94, last_name=0.88, email=0.74, phone=0.70, dob=0.12, street=0.20, company=0.18, device_id=0.10, at_work=0.15),
    "billing": dict(first_name=0.99, last_name=0.99, email=0.80, phone=0.64, dob=0.68, street=0.96, company=0.12, device_id=0.00, at_work=0.10),
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def plain(text: str) -> str:
    text = text.replace("ø", "o").replace("ß", "ss")
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def handle(text: str) -> str:
    return "".join(letter for letter in plain(text).lower() if letter.isalnum())


class World:
    def __init__(self, records: int, seed: int):
        self.random = random.Random(seed)
        self.taken = set()
        made = {(a + b + c).capitalize() for a in ONSETS for b in MIDDLES for c in ENDINGS}
        self.given, self.given_weights = self.ranked(list(GIVEN), 0.7)
        self.family, self.family_weights = self.ranked(FAMILY + sorted(made - set(FAMILY)), 0.75)
        places = sorted({(a + b + c).capitalize() for a in ONSETS[:12] for b in MIDDLES[:4] for c in ENDINGS[:9]})
        self.cities, self.city_weights = self.ranked(self.random.sample(places, 400), 0.9)
        self.roads = [f"{name} {self.random.choice(ROADS)}" for name in self.random.sample(sorted(made), 1500)]
        self.employers = [self.employer(number) for number in range(max(20, records // 55))]
        self.kiosks = [self.device() for _ in range(max(2, records // 50000))]

    def ranked(self, values, exponent):
        """Values with weights that fall as a power of their rank, cumulated."""
        total, weights = 0.0, []
        for rank in range(len(values)):
            total += 1.0 / (rank + 3) ** exponent
            weights.append(total)
        return values, weights

    def pick(self, values, cumulated):
        return self.random.choices(values, cum_weights=cumulated)[0]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def phone(self) -> str:
        return f"{self.random.randint(201, 989)}{self.random.randint(2000000, 9999999)}"

    def device(self) -> str:
        return f"{self.random.getrandbits(64):016x}"

    def mailbox(self, local: str, domain: str) -> str:
        """A mailbox of this name that nobody has yet."""
        address = f"{local}@{domain}"
        while address in self.taken:
            address = f"{local}{self.random.randint(1, 9999)}@{domain}"
        self.taken.add(address)
        return address

    def employer(self, number: int) -> dict:
        name, trade = self.pick(self.family, self.family_weights), self.random.choice(TRADES)
        return dict(name=f"{name} {trade}", domain=f"{handle(name)}{trade.lower()}{number}.com", phone=self.phone())

    def address(self) -> dict:
        number = self.random.choices(range(len(self.cities)), cum_weights=self.city_weights)[0]
        flat = self.random.randint(1, 60) if self.chance(0.2) else None
        return dict(
            street=f"{self.random.randint(1, 2500)} {self.random.choice(self.roads)}",
            flat=flat,
            city=self.cities[number],
            postcode=f"{10000 + number * 30 + self.random.randrange(max(2, 20 - number // 25))}",
        )

    def household(self) -> list[dict]:
        size = self.random.choices([1, 2, 3, 4, 5], weights=[45, 25, 14, 11, 5])[0]
        family, address, landline, tablet = self.pick(self.family, self.family_weights), self.address(), self.phone(), self.device()
        shared_mail = self.mailbox(f"family.{handle(family)}", "gmail.com") if self.chance(0.12) else None
        members = []
        for place in range(size):
            same_name = place == 0 or self.chance(0.8)
            given = self.pick(self.given, self.given_weights)
            year = int(min(max(self.random.gauss(1977, 16), 1930), 2004))
            if place >= 2:
                year = min(max(members[0]["born"].year + self.random.randint(20, 38), 1945), 2010)
            born = datetime.date(year, 1, 1) + datetime.timedelta(days=self.random.randrange(365))
            if place >= 1 and self.chance(0.02):  # a parent's name for a child
                given, same_name, born = members[0]["given"], True, born.replace(year=min(members[0]["born"].year + 26, 2010), day=1)
            elif place >= 3 and self.chance(0.03):  # twins
                born = members[-1]["born"]
            members.append(self.person(given, family if same_name else self.pick(self.family, self.family_weights), born, address))
            members[-1].update(landline=landline, tablet=tablet, family_mail=shared_mail)
        return members

    def person(self, given: str, family: str, born: datetime.date, address: dict) -> dict:
        first, last, tail = handle(given), handle(family), str(self.random.randint(1, 999))
        locals_ = [f"{first}.{last}", f"{first}{last}{born.year % 100:02}", f"{first[0]}{last}{tail}", f"{first}{tail}", f"{last}.{first}", f"{last}{first[0]}"]
        employer = self.random.choice(self.employers) if self.chance(0.6) else None
        provider = self.random.choices(PROVIDERS, weights=PROVIDER_WEIGHTS)[0]
        return dict(
            given=given,
            short=self.random.choice(GIVEN[given]) if GIVEN[given] else None,
            family=family,
            former=self.pick(self.family, self.family_weights) if self.chance(0.06) else None,
            born=born,
            addresses=[address, self.address()] if self.chance(0.2) else [address],
            mails=[self.mailbox(self.random.choice(locals_), provider), self.mailbox(f"{self.random.choice([first, last])}{tail}x", "outlook.com")],
            employer=employer,
            work_mail=self.mailbox(f"{first}.{last}" if self.chance(0.7) else f"{first[0]}{last}", employer["domain"]) if employer else None,
            phones=[self.phone(), self.phone()],
            devices=[self.device() for _ in range(self.random.choices([1, 2, 3], weights=[60, 30, 10])[0])],
        )

    def record(self, person: dict) -> dict:
        system, asks = self.random.choice(list(SYSTEMS.items()))
        has = lambda field: self.chance(asks[field])  # noqa: E731
        row = dict.fromkeys(COLUMNS, "")
        row["system"] = system
        given, family = self.names(person)
        row["first_name"], row["last_name"] = given if has("first_name") else "", family if has("last_name") else ""
        at_work = person["employer"] is not None and self.chance(asks["at_work"])
        row["email"] = self.mail(person, at_work) if has("email") else ""
        row["phone"] = self.number(person, at_work) if has("phone") else ""
        row["dob"] = self.birth(person["born"]) if has("dob") else ""
        if has("street"):
            row["street"], row["city"], row["postcode"] = self.home(person)
        if person["employer"] and has("company"):
            form = self.random.choice(FORMS)
            row["company"] = self.mistyped(f"{person['employer']['name']} {form}".strip(), 0.02)
        if has("device_id"):
            devices = self.random.choices([person["devices"], [person["tablet"]], self.kiosks], weights=[89, 9, 2])[0]
            row["device_id"] = self.random.choice(devices)
        return row

    def names(self, person: dict) -> tuple[str, str]:
        given, family = person["given"], person["family"]
        if person["former"] and self.chance(0.4):
            family = person["former"]
        elif person["former"] and self.chance(0.08):
            family = f"{family}-{person['former']}"
        if person["short"] and self.chance(0.25):
            given = person["short"]
        if self.chance(0.03):
            given = f"{given} {self.random.choice(LETTERS).upper()}."
        elif self.chance(0.025):
            given = f"{given[0]}."
        if self.chance(0.35):
            given, family = plain(given), plain(family)
        given, family = self.mistyped(given, 0.045), self.mistyped(family, 0.055)
        if self.chance(0.01):
            given, family = family, given
        case = self.random.choices([str, str.upper, str.lower], weights=[80, 6, 14])[0]
        return case(given), case(family)

    def mail(self, person: dict, at_work: bool) -> str:
        filler = self.random.random()
        if filler < 0.005:
            return "test@test.com" if filler < 0.003 else "none@none.com"
        if at_work:
            mail = f"{self.random.choice(['info', 'sales', 'office'])}@{person['employer']['domain']}" if self.chance(0.03) else person["work_mail"]
        elif person["family_mail"] and self.chance(0.25):
            mail = person["family_mail"]
        else:
            mail = person["mails"][0 if self.chance(0.93) else 1]
        mail = self.mistyped(mail, 0.02)
        return mail.upper() if self.chance(0.05) else mail

    def number(self, person: dict, at_work: bool) -> str:
        filler = self.random.random()
        if filler < 0.009:
            return "0000000000" if filler < 0.004 else "9999999999" if filler < 0.007 else "1234567890"
        if at_work and self.chance(0.4):
            number = person["employer"]["phone"]
        else:
            number = self.random.choices([person["phones"][0], person["phones"][1], person["landline"]], weights=[76, 13, 11])[0]
        if self.chance(0.025):
            place = self.random.randrange(1, 10)
            number = number[:place] + str(self.random.randrange(10)) + number[place + 1 :]
        a, b, c = number[:3], number[3:6], number[6:]
        return self.random.choice([number, number, f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"+1{number}", f"{a}.{b}.{c}"])

    def birth(self, born: datetime.date) -> str:
        filler, error = self.random.random(), self.random.random()
        if filler < 0.015:
            return "1900-01-01" if filler < 0.01 else "1970-01-01"
        year, month, day = born.year, born.month, born.day
        if error < 0.015 and day <= 12:
            month, day = day, month
        elif error < 0.03:
            year += self.random.choice([-10, -1, 1, 10])
        elif error < 0.05:
            day = self.random.randint(1, 28)
        return f"{year:04}-{month:02}-{day:02}"

    def home(self, person: dict) -> tuple[str, str, str]:
        address = self.random.choice(person["addresses"])
        number, road, kind = address["street"].split(" ")
        road = self.mistyped(road, 0.04)
        street = f"{number} {road} {SHORT_ROADS[kind] if self.chance(0.4) else kind}"
        if address["flat"] and self.chance(0.75):
            street += f" Apt {address['flat']}"
        city = "" if self.chance(0.04) else address["city"]
        return street, city, "" if self.chance(0.04) else address["postcode"]

    def mistyped(self, text: str, share: float) -> str:
        """The text, or at times the text with one slip: a letter lost, doubled, other, or exchanged with its neighbour."""
        if len(text) < 3 or not self.chance(share):
            return text
        place = self.random.randrange(1, len(text) - 1)
        before, letter, after = text[:place], text[place], text[place + 1 :]
        if self.chance(0.25):
            return before + after[0] + letter + after[1:]
        return before + self.random.choice(["", letter * 2, self.random.choice(LETTERS)]) + after


def write(records: int, seed: int, path: str) -> None:
    world = World(records, seed)
    sizes, weights = range(1, 13), [40, 23, 14, 9, 5.5, 3.5, 2, 1.2, 0.8, 0.4, 0.3, 0.3]
    rows, persons = [], 0
    while len(rows) < records:
        for person in world.household():
            for _ in range(world.random.choices(sizes, weights=weights)[0]):
                row = world.record(person)
                row["true_id"] = persons
                rows.append(row)
            persons += 1
    del rows[records:]
    world.random.shuffle(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number, row in enumerate(rows):
            row["unique_id"] = number
            writer.writerow(row)


if __name__ == "__main__":
    write(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
