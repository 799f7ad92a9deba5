//! Golden records: what the records of each customer say, in one row.

use std::collections::{BTreeMap, HashSet};

use decisioning_core::identity::{
    address, addresses, birth, candidates, survivor, Candidate, Country, Dwelling, FieldKind, Fields, Witness, ADDRESS,
    ONLINE,
};
use pgrx::datum::Date;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::{Map, Value};

use super::survivorship::{scores, Contest, Rules, ADDRESS_RULE};
use super::{field, household, source};
use crate::api::now;
use crate::pg::error::{Error, Result};
use crate::pg::guard::{as_owner, as_owner_by_key};
use crate::pg::memory::scratch;
use crate::pg::snapshot::latest;
use crate::pg::{interrupt, query, scan};

/// Customers at a time.
const CHUNK: usize = 10_000;

/// Columns of texts, each of one kind.
const COLUMNS: [&str; 12] = [
    "given_name",
    "family_name",
    "full_name",
    "email",
    "phone",
    "street",
    "city",
    "postcode",
    "country",
    "company",
    "device_id",
    "external_id",
];

/// What stays the same for all customers of a refresh.
pub struct Maker {
    sources: Vec<(String, Option<Country>)>,
    rules: Rules,
}

/// A customer with his records.
struct Person {
    customer_id: String,
    witnesses: Vec<Witness>,
    /// Source and key of each record.
    records: Vec<(String, String)>,
}

/// A row of golden_records, and the key of the household.
struct Golden {
    texts: [Option<String>; COLUMNS.len()],
    birth: Option<Date>,
    extra: Map<String, Value>,
    household: Option<u64>,
}

/// Whether golden records are kept: once they were asked for. Runs as the owner.
pub fn are_kept() -> Result<bool> {
    Ok(query::read_one("SELECT 1 FROM decisioning.golden_records LIMIT 1", &[], |_| Ok(()))?.is_some())
}

#[pg_extern(sql = false)]
fn refresh_golden_records() -> std::result::Result<(), ErrorReport> {
    Ok(refresh_all()?)
}

fn refresh_all() -> Result<()> {
    super::resolve::require_read_committed("refresh_golden_records")?;
    // As full runs: one at a time, and none at the same time.
    as_owner(|| query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[]))?;
    let maker = latest(|| as_owner(Maker::load))?;
    let mut last: Option<String> = None;
    let mut changed = 0;
    // Every look is a new one: a run that this one has waited for may have changed any of it.
    let customers = |sql: &str, after: Option<String>| -> Result<Vec<String>> {
        latest(|| as_owner(|| query::read(sql, &[after.into(), (CHUNK as i64).into()], |row| row.value(1))))
    };
    loop {
        let ids = customers(
            "SELECT DISTINCT r.customer_id FROM decisioning._record r
             WHERE $1::text IS NULL OR r.customer_id > $1 ORDER BY r.customer_id LIMIT $2",
            last.clone(),
        )?;
        changed += latest(|| maker.refresh(&ids))?;
        if ids.len() < CHUNK {
            break;
        }
        last = ids.last().cloned();
    }
    loop {
        let gone = customers(
            "SELECT g.customer_id FROM decisioning.golden_records g
             WHERE ($1::text IS NULL OR g.customer_id > $1)
               AND NOT EXISTS (SELECT FROM decisioning._record r WHERE r.customer_id = g.customer_id)
             ORDER BY g.customer_id LIMIT $2",
            None,
        )?;
        changed += latest(|| maker.refresh(&gone))?;
        if gone.len() < CHUNK {
            break;
        }
    }
    notice!("{changed} golden records changed");
    Ok(())
}

impl Maker {
    /// Runs as the owner.
    pub fn load() -> Result<Self> {
        let mut sources: Vec<(String, Option<Country>)> =
            source::load()?.into_iter().map(|source| (source.name, source.default_country)).collect();
        let default_country = sources.first().and_then(|(_, country)| *country);
        sources.push((ONLINE.to_owned(), default_country));
        let names: Vec<String> = sources.iter().map(|(name, _)| name.clone()).collect();
        Ok(Maker { rules: Rules::load(&names)?, sources })
    }

    /// Makes the rows and households of some customers anew, in chunks; those without records lose theirs. Returns how many rows
    /// changed. Reads and writes as the owner, and runs the expressions of rules as the caller.
    pub fn refresh(&self, customers: &[String]) -> Result<usize> {
        let mut changed = 0;
        for ids in customers.chunks(CHUNK) {
            interrupt::check();
            let persons = as_owner_by_key(|| self.read(ids))?;
            let scores = self.scores(&persons)?;
            let rows: Vec<Golden> = persons
                .iter()
                .enumerate()
                .map(|(at, person)| self.golden(person, &scores, at))
                .collect::<Result<_>>()?;
            changed += as_owner_by_key(|| {
                let keys = persons
                    .iter()
                    .zip(&rows)
                    .filter_map(|(person, row)| Some((person.customer_id.as_str(), row.household?)));
                household::assign(ids, &keys.collect::<Vec<_>>())?;
                scratch(|| write(ids, &persons, &rows))
            })?;
        }
        Ok(changed)
    }

    fn read(&self, ids: &[String]) -> Result<Vec<Person>> {
        let mut persons: Vec<Person> = Vec::new();
        let mut fields = Fields::new();
        scan::by_key(
            "SELECT r.customer_id::text, r.source::text, r.record_key::text, f.changed_at, f.fields
             FROM decisioning._record r JOIN decisioning._record_field f ON f.record_number = r.record_number
             WHERE r.customer_id = ANY ($1)
             ORDER BY r.customer_id COLLATE \"C\", r.source COLLATE \"C\", r.record_key COLLATE \"C\"",
            &[ids.to_vec().into()],
            |row| {
                let (Some(id), Some(name), Some(key)) = (row.text(0)?, row.text(1)?, row.text(2)?) else {
                    return Err(Error::corrupted("a record has no key"));
                };
                let (Some(changed_at), Some(document)) = (row.number(3)?, row.bytes(4)?) else {
                    return Err(Error::corrupted("a record has no fields"));
                };
                field::read(document, &mut fields)?;
                if persons.last().is_none_or(|person| person.customer_id != id) {
                    persons.push(Person { customer_id: id.to_owned(), witnesses: Vec::new(), records: Vec::new() });
                }
                if let Some(person) = persons.last_mut() {
                    let source = self.sources.iter().position(|(known, _)| known == name).unwrap_or(self.sources.len());
                    person.witnesses.push(Witness { source, changed_at, fields: fields.clone() });
                    person.records.push((name.to_owned(), key.to_owned()));
                }
                Ok(())
            },
        )?;
        // Sources by the order in which they were added, whatever their names.
        for person in &mut persons {
            let mut order: Vec<usize> = (0..person.witnesses.len()).collect();
            order.sort_by_key(|&at| person.witnesses[at].source);
            person.witnesses = order.iter().map(|&at| person.witnesses[at].clone()).collect();
            person.records = order.iter().map(|&at| person.records[at].clone()).collect();
        }
        Ok(persons)
    }

    /// By kind and customer, the scores of the candidates, where the rule is an expression.
    fn scores(&self, persons: &[Person]) -> Result<BTreeMap<String, Vec<Vec<f64>>>> {
        let mut found = BTreeMap::new();
        for kind in self.rules.scored() {
            let Some(expression) = self.rules.expression(kind) else { continue };
            let wholes: Vec<Vec<(usize, String)>>;
            let contests: Vec<Contest<'_>> = if kind == ADDRESS_RULE {
                wholes = persons.iter().map(|person| addresses(&person.witnesses)).collect();
                persons.iter().zip(&wholes).map(|(person, whole)| contest(person, whole_addresses(whole))).collect()
            } else {
                let kind: FieldKind = kind.parse()?;
                persons.iter().map(|person| contest(person, candidates(&person.witnesses, &kind))).collect()
            };
            found.insert(kind.to_owned(), scores(expression, &contests)?);
        }
        Ok(found)
    }

    fn golden(&self, person: &Person, scores: &BTreeMap<String, Vec<Vec<f64>>>, at: usize) -> Result<Golden> {
        let witnesses = person.witnesses.as_slice();
        let scores_of = |kind: &str| scores.get(kind).map_or(&[][..], |of_all| of_all[at].as_slice());
        let mut kinds: Vec<&FieldKind> =
            witnesses.iter().flat_map(|witness| witness.fields.iter().map(|(kind, _)| kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        let mut birth_date = None;
        for kind in kinds.into_iter().filter(|kind| !ADDRESS.contains(kind)) {
            let name = kind.name();
            let mut found = candidates(witnesses, kind);
            let mut scores = scores_of(&name).to_vec();
            let date = |candidate: &Candidate<'_>| self.birth(&witnesses[candidate.witness], candidate.value);
            if *kind == FieldKind::DateOfBirth {
                // What is no date does not survive.
                let dates: Vec<bool> = found.iter().map(|candidate| date(candidate).is_some()).collect();
                let mut keep = dates.iter();
                found.retain(|_| *keep.next().unwrap_or(&false));
                let mut keep = dates.iter();
                scores.retain(|_| *keep.next().unwrap_or(&false));
            }
            let Some(best) = survivor(&self.rules.of(kind), witnesses, &found, &scores) else { continue };
            if *kind == FieldKind::DateOfBirth {
                birth_date = date(&found[best]);
            } else {
                values.insert(name.into_owned(), found[best].value.to_owned());
            }
        }
        if let Some(witness) = address(&self.rules.of_address(), witnesses, scores_of(ADDRESS_RULE)) {
            for kind in &ADDRESS {
                if let Some(value) = witnesses[witness].fields.get(kind) {
                    values.insert(kind.name().into_owned(), value.trim().to_owned());
                }
            }
        }
        let texts = COLUMNS.map(|column| values.remove(column));
        let text = |column: &str| COLUMNS.iter().position(|known| *known == column).and_then(|at| texts[at].as_deref());
        let dwelling = Dwelling {
            family_name: text("family_name"),
            full_name: text("full_name"),
            street: text("street"),
            postcode: text("postcode"),
            city: text("city"),
        };
        Ok(Golden {
            household: dwelling.key(),
            birth: birth_date,
            extra: values.into_iter().map(|(kind, value)| (kind, Value::String(value))).collect(),
            texts,
        })
    }

    fn birth(&self, witness: &Witness, raw: &str) -> Option<Date> {
        let own = witness.fields.get(&FieldKind::Country).and_then(|country| country.parse().ok());
        let country = own.or_else(|| self.sources.get(witness.source).and_then(|(_, country)| *country));
        let (year, month, day) = birth(raw, country)?;
        Date::new(i32::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?).ok()
    }
}

fn whole_addresses(whole: &[(usize, String)]) -> Vec<Candidate<'_>> {
    whole.iter().map(|(witness, value)| Candidate { value, witness: *witness, frequency: 1 }).collect()
}

fn contest<'a>(person: &'a Person, candidates: Vec<Candidate<'a>>) -> Contest<'a> {
    Contest { candidates, witnesses: &person.witnesses, records: &person.records }
}

/// Writes what differs from what is stored, with the household of each.
fn write(ids: &[String], persons: &[Person], rows: &[Golden]) -> Result<usize> {
    let kept: Vec<String> = persons.iter().map(|person| person.customer_id.clone()).collect();
    let known: HashSet<&str> = kept.iter().map(String::as_str).collect();
    let gone: Vec<String> = ids.iter().filter(|id| !known.contains(id.as_str())).cloned().collect();
    let deleted =
        query::execute("DELETE FROM decisioning.golden_records g WHERE g.customer_id = ANY ($1)", &[gone.into()])?;
    let columns = COLUMNS.join(", ");
    let all = format!("{columns}, date_of_birth, extra, records, household_id");
    let of = |relation: &str| {
        let columns: Vec<String> = all.split(", ").map(|column| format!("{relation}.{column}")).collect();
        columns.join(", ")
    };
    let texts: Vec<String> = (0..COLUMNS.len()).map(|at| format!("${}::text[]", at + 6)).collect();
    let sql = format!(
        "INSERT INTO decisioning.golden_records AS g (customer_id, {all}, updated_at)
         SELECT n.customer_id, {listed}, n.date_of_birth, n.extra, n.records, m.household_id, $1
         FROM unnest($2::text[], $3::date[], $4::jsonb[], $5::integer[], {texts})
              AS n(customer_id, date_of_birth, extra, records, {columns})
         LEFT JOIN LATERAL (SELECT m.household_id FROM decisioning._household_member m
                            WHERE m.customer_id = n.customer_id OFFSET 0) AS m ON true
         ON CONFLICT (customer_id) DO UPDATE SET ({all}, updated_at) = ROW({excluded}, excluded.updated_at)
         WHERE ({stored}) IS DISTINCT FROM ({excluded})",
        listed = COLUMNS.map(|column| format!("n.{column}")).join(", "),
        texts = texts.join(", "),
        excluded = of("excluded"),
        stored = of("g"),
    );
    let mut arguments: Vec<query::Argument<'_>> = vec![
        now()?.into(),
        kept.into(),
        rows.iter().map(|row| row.birth).collect::<Vec<_>>().into(),
        rows.iter().map(|row| JsonB(Value::Object(row.extra.clone()))).collect::<Vec<_>>().into(),
        persons.iter().map(|person| person.witnesses.len() as i32).collect::<Vec<_>>().into(),
    ];
    for at in 0..COLUMNS.len() {
        arguments.push(rows.iter().map(|row| row.texts[at].clone()).collect::<Vec<_>>().into());
    }
    Ok(deleted + query::execute(&sql, &arguments)?)
}
