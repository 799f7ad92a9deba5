//! Linkage of a file of customers whose truth is known: time of each stage, peak memory, pairwise and B-cubed scores.
//!
//!   cargo bench -p decisioning-core --bench identity -- customers.csv
//!
//! The file has the columns unique_id, first_name, last_name, email, phone, dob, street, city, postcode, company, device_id
//! and true_id, of which any but the first and the last may be absent.
//!
//!   THREADS=2 COUNTRY=US THRESHOLD=0 REVIEW=-6.6 (match weights)
//!   PARAMETERS=1 (what was learned) SIZES=1 (what each blocking rule compares) EXPLAIN=7,12 (a pair by unique_id) MISSED=20 (some pairs that were not found)

use std::collections::HashMap;
use std::time::Instant;

use decisioning_core::identity::{
    explain, BlockingRules, Explained, FieldKind, Fields, Linkage, Matching, Nicknames, Overrides, Records, Rules,
};

const COLUMNS: &[(&str, &str)] = &[
    ("first_name", "given_name"),
    ("given_name", "given_name"),
    ("last_name", "family_name"),
    ("surname", "family_name"),
    ("email", "email"),
    ("phone", "phone"),
    ("dob", "date_of_birth"),
    ("date_of_birth", "date_of_birth"),
    ("street", "street"),
    ("city", "city"),
    ("suburb", "city"),
    ("postcode", "postcode"),
    ("company", "company"),
    ("device_id", "device_id"),
    ("soc_sec_id", "text"),
];

fn main() {
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).expect("a csv file");
    let threads = setting("THREADS").unwrap_or(2.0) as usize;
    let country = std::env::var("COUNTRY").ok().or(Some("US".to_owned())).and_then(|code| code.parse().ok());

    let mut reader = csv::Reader::from_path(&path).expect("readable");
    let header = reader.headers().expect("a header").clone();
    let place = |name: &str| header.iter().position(|column| column == name);
    let (key, truth) = (place("unique_id").expect("unique_id"), place("true_id").expect("true_id"));
    let kinds: Vec<(usize, FieldKind)> =
        COLUMNS.iter().filter_map(|(column, kind)| Some((place(column)?, kind.parse().expect("a kind")))).collect();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();

    let mut clock = Clock::start();
    let mut records = Records::new(Rules::default(), &["file"]).expect("one source");
    let mut fields = Fields::new();
    for row in &rows {
        fields.clear();
        for (place, kind) in &kinds {
            fields.push(kind, &row[*place]);
        }
        let record = records.add(0, &row[key]).expect("a short key");
        records.describe(record, &fields, country).expect("not too many");
    }
    clock.lap("describe");
    let mut matching = Matching::new(records).expect("not too many");
    let has = matching.attributes();
    clock.lap("order");
    let blocking = BlockingRules::proposed(|attribute| has.contains(&attribute));
    let frequencies = matching.frequencies(&mut || {});
    clock.lap("frequencies");
    if setting("SIZES").is_some() {
        for sizes in matching.block_sizes(&blocking, threads, &mut || {}) {
            println!("{sizes:?}");
        }
        clock.lap("sizes");
    }
    let overrides =
        Overrides { threshold: setting("THRESHOLD"), review_threshold: setting("REVIEW"), ..Overrides::default() };
    let parameters =
        matching.train(&frequencies, &blocking, &overrides, 1, threads, &mut || {}).expect("sensible overrides");
    clock.lap("train");
    if setting("PARAMETERS").is_some() {
        println!("prior {:.3e} related {:.3e}", parameters.prior, parameters.prior_related);
        for comparison in &parameters.comparisons {
            for level in &comparison.levels {
                println!(
                    "{:14} {:22} m {:.5} u {:.3e} related {:.5}  weight {:6.2} {:9.0} matches {}{}",
                    comparison.comparison,
                    level.level,
                    level.m,
                    level.u,
                    level.related,
                    (level.m / level.u).log2(),
                    level.matches,
                    if level.m_observed { "" } else { "m unobserved " },
                    if level.u_observed { "" } else { "u unobserved" },
                );
            }
        }
    }
    if let Ok(pair) = std::env::var("EXPLAIN") {
        let fields_of = |id: &str| {
            let row = rows.iter().find(|row| &row[key] == id).expect("a known unique_id");
            let mut fields = Fields::new();
            kinds.iter().for_each(|(place, kind)| fields.push(kind, &row[*place]));
            fields
        };
        let (left, right) = pair.split_once(',').expect("two ids");
        let (left, right) = (fields_of(left), fields_of(right));
        let [left, right] = [&left, &right].map(|fields| Explained { fields, country, source: "file" });
        let (rules, nicknames) = (Rules::default(), std::sync::Arc::new(Nicknames::default()));
        for step in explain(left, right, &rules, &nicknames, &parameters, &frequencies).expect("sensible parameters") {
            println!(
                "{:14} {:22} {:8.2} {:8.2} {:8.2}  {} | {}",
                step.comparison,
                step.level,
                step.tf_adjustment,
                step.weight,
                step.cumulative,
                step.left.unwrap_or_default(),
                step.right.unwrap_or_default()
            );
        }
    }
    let linkage = Linkage { parameters: &parameters, frequencies: &frequencies, blocking: &blocking, threads };
    let resolution = matching.resolve(Some(&linkage), &mut || {}).expect("sensible parameters");
    clock.lap("resolve");
    println!(
        "{path}: {} records, {} persons, {} uncertain",
        rows.len(),
        resolution.persons(),
        resolution.uncertain().count()
    );
    println!("{}  peak {:.0} MB", clock.laps.join("  "), peak_megabytes());
    let found: Vec<&str> = rows.iter().map(|row| resolution.customer("file", &row[key]).expect("known")).collect();
    let truth: Vec<&str> = rows.iter().map(|row| &row[truth]).collect();
    println!("{}", scores(&truth, &found));
    if let Some(most) = setting("MISSED") {
        let mut last: HashMap<&str, usize> = HashMap::new();
        let pairs = (0..rows.len()).filter_map(|row| Some((last.insert(truth[row], row)?, row)));
        for (a, b) in pairs.filter(|&(a, b)| found[a] != found[b]).take(most as usize) {
            println!("{:?}\n{:?}\n", rows[a], rows[b]);
        }
    }
}

fn setting(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Pairwise and B-cubed precision, recall and F1.
fn scores(truth: &[&str], found: &[&str]) -> String {
    fn sizes<K: std::hash::Hash + Eq>(labels: impl Iterator<Item = K>) -> HashMap<K, f64> {
        let mut sizes = HashMap::new();
        labels.for_each(|label| *sizes.entry(label).or_insert(0.0) += 1.0);
        sizes
    }
    let pairs = |sizes: &mut dyn Iterator<Item = f64>| sizes.map(|size| size * (size - 1.0) / 2.0).sum::<f64>();
    let (of_truth, of_found) = (sizes(truth.iter()), sizes(found.iter()));
    let both = sizes(truth.iter().zip(found));
    let right = pairs(&mut both.values().copied());
    let precision = right / pairs(&mut of_found.values().copied()).max(1.0);
    let recall = right / pairs(&mut of_truth.values().copied()).max(1.0);
    let f1 = |precision: f64, recall: f64| 2.0 * precision * recall / (precision + recall);
    let (mut cubed_precision, mut cubed_recall) = (0.0, 0.0);
    for ((of_one, of_other), size) in &both {
        cubed_precision += size * size / of_found[of_other];
        cubed_recall += size * size / of_truth[of_one];
    }
    let records = truth.len() as f64;
    let (cubed_precision, cubed_recall) = (cubed_precision / records, cubed_recall / records);
    let largest = of_found.values().copied().fold(0.0, f64::max);
    format!(
        "pairwise P {precision:.4} R {recall:.4} F1 {:.4}   B-cubed P {cubed_precision:.4} R {cubed_recall:.4} F1 {:.4}   largest {largest}",
        f1(precision, recall),
        f1(cubed_precision, cubed_recall)
    )
}

/// Wall and processor seconds of each stage.
struct Clock {
    wall: Instant,
    processor: f64,
    laps: Vec<String>,
}

impl Clock {
    fn start() -> Self {
        Clock { wall: Instant::now(), processor: processor_seconds(), laps: Vec::new() }
    }

    fn lap(&mut self, stage: &str) {
        let processor = processor_seconds();
        self.laps.push(format!("{stage} {:.2}/{:.2}", self.wall.elapsed().as_secs_f64(), processor - self.processor));
        (self.wall, self.processor) = (Instant::now(), processor);
    }
}

/// User and system time of this process, in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
