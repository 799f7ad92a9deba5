//! What training found, as it is kept.

use decisioning_core::identity::{
    Attribute, BlockingRules, ComparisonParameters, LevelParameters, Matching, Overrides, Parameters, TermFrequencies,
};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::stored;
use super::wanted::{self, Wanted};
use crate::api::now;
use crate::pg::bulk::{self, Indexes};
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::threads::{self, Quiet};
use crate::pg::{datum, query, scan};

/// Rows per fetch and batch.
const CHUNK: usize = 10_000;

/// Where the random numbers of training begin: the same data trains to the same parameters.
const SEED: u64 = 1;

/// How records are linked by similarity.
pub struct Model {
    pub number: i64,
    /// Records that it was trained on.
    pub records: i64,
    pub attributes: Vec<String>,
    /// As training found them.
    trained: Parameters,
    /// As in effect: with what people set instead.
    pub parameters: Parameters,
    pub blocking: BlockingRules,
}

/// Names of attributes, in their order.
pub fn names(attributes: &[Attribute]) -> Vec<String> {
    attributes.iter().map(|attribute| attribute.name().to_owned()).collect()
}

/// Whether records that have these attributes can be told apart by more than their identifiers.
pub fn describe_persons(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        !matches!(attribute, Attribute::Email | Attribute::EmailLocal | Attribute::Phone | Attribute::DeviceId)
    })
}

/// Learns parameters and frequencies from the records and keeps them. Runs as the owner.
pub fn train(
    matching: &mut Matching,
    wanted: &Wanted,
    quiet: &Quiet,
    threads: usize,
) -> Result<(Model, TermFrequencies)> {
    let attributes = matching.attributes();
    let blocking = wanted.blocking(&attributes)?;
    let tick = &mut || quiet.check();
    let frequencies = matching.frequencies(tick);
    let trained = matching.train(&frequencies, &blocking, &Overrides::default(), SEED, threads, tick)?;
    let parameters = trained.with(&wanted.overrides)?;
    let mut model = Model {
        number: 0,
        records: matching.len() as i64,
        attributes: names(&attributes),
        trained,
        parameters,
        blocking,
    };
    quiet.lift(|| {
        model.number = store(&model)?;
        store_frequencies(&frequencies)?;
        Ok((model, frequencies))
    })
}

/// The model with what people set by now, kept if that is something new. Runs as the owner.
pub fn adapt(mut model: Model, wanted: &Wanted) -> Result<Model> {
    let attributes: Vec<Attribute> = Attribute::ALL
        .into_iter()
        .filter(|attribute| model.attributes.iter().any(|known| known == attribute.name()))
        .collect();
    let (parameters, blocking) = (model.trained.with(&wanted.overrides)?, wanted.blocking(&attributes)?);
    if (&parameters, &blocking) != (&model.parameters, &model.blocking) {
        (model.parameters, model.blocking) = (parameters, blocking);
        model.number = store(&model)?;
    }
    Ok(model)
}

fn store(model: &Model) -> Result<i64> {
    let Model { records, attributes, trained, parameters, blocking, .. } = model;
    query::execute("DELETE FROM decisioning._match_model", &[])?;
    query::execute("DELETE FROM decisioning._match_parameter", &[])?;
    query::execute("DELETE FROM decisioning._match_source_factor", &[])?;
    let rules: Vec<String> = blocking.rules.iter().map(ToString::to_string).collect();
    let number = query::write(
        "INSERT INTO decisioning._match_model (trained_at, records, attributes, blocking_rules, block_limit, prior,
             prior_related, threshold, review_threshold, trained_prior, trained_threshold, trained_review_threshold)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING model",
        &[
            now()?.into(),
            (*records).into(),
            attributes.clone().into(),
            rules.into(),
            (blocking.block_limit as i32).into(),
            parameters.prior.into(),
            parameters.prior_related.into(),
            parameters.threshold.into(),
            parameters.review_threshold.into(),
            trained.prior.into(),
            trained.threshold.into(),
            trained.review_threshold.into(),
        ],
        |row| row.value::<i64>(1),
    )?;
    for (position, (comparison, of_training)) in parameters.comparisons.iter().zip(&trained.comparisons).enumerate() {
        for (source, factor) in &comparison.by_source {
            query::execute(
                "INSERT INTO decisioning._match_source_factor (comparison, source, factor) VALUES ($1, $2, $3)",
                &[comparison.comparison.as_str().into(), source.as_str().into(), (*factor).into()],
            )?;
        }
        for (level_position, (level, found)) in comparison.levels.iter().zip(&of_training.levels).enumerate() {
            query::execute(
                "INSERT INTO decisioning._match_parameter (comparison, level, comparison_position, level_position, factor,
                     m, u, trained_m, trained_u, related, m_observed, u_observed, matches)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                &[
                    comparison.comparison.as_str().into(),
                    level.level.as_str().into(),
                    (position as i32).into(),
                    (level_position as i32).into(),
                    comparison.factor.into(),
                    level.m.into(),
                    level.u.into(),
                    found.m.into(),
                    found.u.into(),
                    level.related.into(),
                    level.m_observed.into(),
                    level.u_observed.into(),
                    level.matches.into(),
                ],
            )?;
        }
    }
    number.first().copied().ok_or_else(|| Error::corrupted("a model has no number"))
}

fn store_frequencies(frequencies: &TermFrequencies) -> Result<()> {
    let is_first = query::read_one("SELECT 1 FROM decisioning._term_frequency LIMIT 1", &[], |_| Ok(()))?.is_none();
    // Nobody looks frequencies up before there is a model, so nobody waits for the indexes.
    let indexes = if is_first { Indexes::Later } else { Indexes::Kept };
    query::execute("DELETE FROM decisioning._term_frequency", &[])?;
    let rows: Vec<_> = frequencies.rows().collect();
    for rows in rows.chunks(CHUNK) {
        let columns = [c"attribute", c"value", c"records", c"agreement"];
        bulk::append_with(indexes, c"_term_frequency", columns, rows.len(), |n| {
            Ok([
                Some(datum::text(rows[n].attribute)?),
                Some(datum::text(rows[n].value.unwrap_or_default())?),
                Some(datum::number(rows[n].records as i64)),
                rows[n].agreement.and_then(pgrx::IntoDatum::into_datum),
            ])
        })?;
    }
    if is_first {
        bulk::reindex(c"_term_frequency")?;
    }
    query::execute("ANALYZE decisioning._term_frequency", &[])?;
    Ok(())
}

/// The model in force, if any was trained. Runs as the owner.
pub fn load() -> Result<Option<Model>> {
    let found = query::read_one(
        "SELECT m.model, m.records, m.attributes, m.blocking_rules, m.block_limit, m.prior, m.prior_related, m.threshold,
                m.review_threshold, m.trained_prior, m.trained_threshold, m.trained_review_threshold
         FROM decisioning._match_model m ORDER BY m.model DESC LIMIT 1",
        &[],
        |row| {
            let rules = row.value::<Vec<String>>(4)?.iter().map(|rule| rule.parse()).collect::<std::result::Result<_, _>>()?;
            Ok(Model {
                number: row.value(1)?,
                records: row.value(2)?,
                attributes: row.value(3)?,
                blocking: BlockingRules::new(rules, row.value::<i32>(5)? as u32)?,
                parameters: Parameters {
                    prior: row.value(6)?,
                    prior_related: row.value(7)?,
                    threshold: row.value(8)?,
                    review_threshold: row.value(9)?,
                    comparisons: Vec::new(),
                },
                trained: Parameters {
                    prior: row.value(10)?,
                    prior_related: row.value(7)?,
                    threshold: row.value(11)?,
                    review_threshold: row.value(12)?,
                    comparisons: Vec::new(),
                },
            })
        },
    )?;
    let Some(mut model) = found else { return Ok(None) };
    let levels = query::read(
        "SELECT p.comparison, p.factor, p.level, p.m, p.u, p.related, p.m_observed, p.u_observed, p.matches, p.trained_m,
                p.trained_u
         FROM decisioning._match_parameter p ORDER BY p.comparison_position, p.level_position",
        &[],
        |row| {
            let level = LevelParameters {
                level: row.value(3)?,
                m: row.value(4)?,
                u: row.value(5)?,
                related: row.value(6)?,
                m_observed: row.value(7)?,
                u_observed: row.value(8)?,
                matches: row.value(9)?,
            };
            let trained = LevelParameters { m: row.value(10)?, u: row.value(11)?, ..level.clone() };
            Ok((row.value::<String>(1)?, row.value::<f64>(2)?, level, trained))
        },
    )?;
    for (comparison, factor, level, trained) in levels {
        for (parameters, factor, level) in [(&mut model.parameters, factor, level), (&mut model.trained, 1.0, trained)]
        {
            match parameters.comparisons.last_mut().filter(|last| last.comparison == comparison) {
                Some(last) => last.levels.push(level),
                None => {
                    let comparison = comparison.clone();
                    let by_source = Vec::new();
                    let levels = vec![level];
                    parameters.comparisons.push(ComparisonParameters { comparison, factor, by_source, levels });
                }
            }
        }
    }
    let by_source = query::read(
        "SELECT f.comparison, f.source, f.factor FROM decisioning._match_source_factor f ORDER BY f.source",
        &[],
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<f64>(3)?)),
    )?;
    for (comparison, source, factor) in by_source {
        let known = model.parameters.comparisons.iter_mut().find(|known| known.comparison == comparison);
        known.into_iter().for_each(|known| known.by_source.push((source.clone(), factor)));
    }
    Ok(Some(model))
}

/// All frequencies. Runs as the owner.
pub fn frequencies() -> Result<TermFrequencies> {
    read_frequencies(
        "SELECT t.attribute, t.value, t.records, t.agreement::text FROM decisioning._term_frequency t",
        &[],
    )
}

/// The frequencies of some values, by attribute and value, and all totals. Runs as the owner.
pub fn frequencies_of(values: &[(&'static str, String)]) -> Result<TermFrequencies> {
    let attributes: Vec<&str> = values.iter().map(|value| value.0).collect();
    let texts: Vec<&str> = values.iter().map(|value| value.1.as_str()).collect();
    read_frequencies(
        "SELECT t.attribute, t.value, t.records, t.agreement::text FROM decisioning._term_frequency t WHERE t.value = ''
         UNION ALL
         SELECT t.attribute, t.value, t.records, NULL FROM unnest($1::text[], $2::text[]) AS u (attribute, value)
         CROSS JOIN LATERAL (SELECT t.* FROM decisioning._term_frequency t
                             WHERE t.attribute = u.attribute AND t.value = u.value OFFSET 0) AS t",
        &[attributes.into(), texts.into()],
    )
}

fn read_frequencies(sql: &str, arguments: &[query::Argument<'_>]) -> Result<TermFrequencies> {
    let mut frequencies = TermFrequencies::default();
    scan::by_key(sql, arguments, |row| {
        let (Some(attribute), Some(value), Some(records)) = (row.text(0)?, row.text(1)?, row.number(2)?) else {
            return Ok(());
        };
        let agreement = row.text(3)?.and_then(|text| text.parse().ok());
        frequencies.set(attribute, Some(value).filter(|value| !value.is_empty()), records as u64, agreement)?;
        Ok(())
    })?;
    Ok(frequencies)
}

type Trained = (String, String, f64, f64, bool, bool);

#[pg_extern(sql = false)]
fn train_matching() -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(comparison, String),
            name!(level, String),
            name!(m, f64),
            name!(u, f64),
            name!(m_observed, bool),
            name!(u_observed, bool),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(as_owner(retrain)?))
}

fn retrain() -> Result<Vec<Trained>> {
    query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[])?;
    let mut matching = stored::all()?;
    if !describe_persons(&matching.attributes()) {
        return Err(Error::state("there is nothing to learn from")
            .detail("The records that were read hold identifiers at most, no names, birth dates, addresses, companies or texts.")
            .hint("Map such columns in decisioning.add_source(…, fields), and call decisioning.resolve_all()."));
    }
    let wanted = wanted::load()?;
    let (model, _) = threads::quietly(|quiet| train(&mut matching, &wanted, quiet, threads::for_maintenance()))?;
    let rows = model.trained.comparisons.into_iter().flat_map(|comparison| {
        let name = comparison.comparison;
        let rows = comparison.levels.into_iter();
        rows.map(move |level| (name.clone(), level.level, level.m, level.u, level.m_observed, level.u_observed))
    });
    Ok(rows.collect())
}
