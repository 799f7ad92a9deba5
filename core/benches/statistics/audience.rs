//! Customers with features, and a campaign over them whose policy has favourites, for simulations of insights.

use decisioning_core::learn::Dimensions;
use decisioning_core::measure::{Half, Known, Levers, Log, Sampled, Trial};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;

pub const ACTIVITIES: [&str; 6] = ["yoga", "swimming", "martial arts", "cycling", "running", "rowing"];
const COUNTRIES: [&str; 4] = ["GB", "FR", "DE", "NL"];
const MESSAGES: [&str; 3] = ["swimming", "news", "coupon"];
const CHANNELS: [&str; 2] = ["email", "sms"];
const FLOOR: f64 = 0.05;

/// What the levers do for whom, as factors of the response rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effects {
    /// Of message swimming on those whose activity is martial arts.
    pub single: Option<f64>,
    /// Of sms on members in FR.
    pub pair: Option<f64>,
}

struct Customer {
    activity: usize,
    country: usize,
    member: bool,
    age: Option<f64>,
    spend: f64,
    base: f64,
}

impl Customer {
    fn draw(random: &mut Xoshiro256PlusPlus) -> Self {
        let age = 18.0 + 60.0 * random.random::<f64>();
        let member = random.random::<f64>() < 0.5;
        Customer {
            activity: random.random_range(0..ACTIVITIES.len()),
            country: [0, 0, 0, 1, 1, 1, 2, 3][random.random_range(0..8)],
            member,
            age: (random.random::<f64>() < 0.9).then_some(age.floor()),
            spend: (50.0 * (0.5 * random.sample::<f64, _>(StandardNormal)).exp()).round(),
            // Some respond often, and some never do.
            base: (0.6 * random.sample::<f64, _>(StandardNormal) + if member { 0.3 } else { 0.0 }).exp(),
        }
    }

    fn context(&self) -> Vec<(String, Known)> {
        let text = |text: &str| Known::Text(text.to_owned());
        [
            ("top_activity", text(ACTIVITIES[self.activity])),
            ("country", text(COUNTRIES[self.country])),
            ("member", Known::Boolean(self.member)),
            ("age", self.age.map_or(Known::Missing, Known::Number)),
            ("spend", Known::Number(self.spend)),
        ]
        .map(|(name, known)| (name.to_owned(), known))
        .into()
    }

    fn rate(&self, action: usize, effects: Effects) -> f64 {
        let Some(send) = action.checked_sub(1) else { return 0.03 * self.base };
        let (message, channel) = (send / CHANNELS.len(), send % CHANNELS.len());
        let mut rate = 0.06 * self.base * [1.0, 1.3, 0.8][message] * [1.0, 1.2][channel];
        if message == 0 && self.activity == 2 {
            rate *= effects.single.unwrap_or(1.0);
        }
        if channel == 1 && self.member && self.country == 1 {
            rate *= effects.pair.unwrap_or(1.0);
        }
        rate.min(0.95)
    }
}

fn pick(propensities: &[f64], luck: f64) -> usize {
    let mut sum = 0.0;
    let found = propensities.iter().position(|p| {
        sum += p;
        luck < sum
    });
    found.unwrap_or(propensities.len() - 1)
}

/// The log of `customers` customers, each decided for `times` times.
pub fn log(seed: u64, customers: usize, times: usize, effects: Effects) -> Log {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let everybody: Vec<Customer> = (0..customers).map(|_| Customer::draw(&mut random)).collect();
    let mut sample = Sampled::default();
    everybody.iter().for_each(|customer| sample.add(customer.context()));
    let features = sample.features();
    let dimensions: Vec<Dimensions> = MESSAGES
        .iter()
        .flat_map(|message| CHANNELS.iter().map(move |channel| [("message", message), ("channel", channel)]))
        .map(|levels| levels.map(|(dimension, level)| (dimension.to_owned(), (*level).to_owned())).into())
        .collect();
    let actions: Vec<Option<&Dimensions>> = [None].into_iter().chain(dimensions.iter().map(Some)).collect();
    let mut log = Log::new(features.clone(), Levers::new(&actions), 2);
    // The policy believes something of every activity and country.
    let mut beliefs =
        || (0..actions.len()).map(|_| 1.5 * random.sample::<f64, _>(StandardNormal)).collect::<Vec<f64>>();
    let by_activity: Vec<Vec<f64>> = ACTIVITIES.iter().map(|_| beliefs()).collect();
    let by_country: Vec<Vec<f64>> = COUNTRIES.iter().map(|_| beliefs()).collect();
    let candidates: Vec<usize> = (0..actions.len()).collect();
    for (n, customer) in everybody.iter().enumerate() {
        let group = usize::from(random.random::<f64>() < 0.8);
        let scores: Vec<f64> = by_activity[customer.activity]
            .iter()
            .zip(&by_country[customer.country])
            .map(|(a, b)| (a + b).exp())
            .collect();
        let (sum, sends) = (scores.iter().sum::<f64>(), actions.len() as f64 - 1.0);
        let propensities: Vec<f64> = match group {
            0 => candidates.iter().map(|action| if *action == 0 { 0.5 } else { 0.5 / sends }).collect(),
            _ => scores.iter().map(|score| (1.0 - FLOOR) * score / sum + FLOOR / actions.len() as f64).collect(),
        };
        let half = if random.random::<bool>() { Half::Discovery } else { Half::Confirmation };
        let context = customer.context();
        for _ in 0..times {
            let taken = pick(&propensities, random.random());
            let trial = Trial {
                customer: &n.to_string(),
                group,
                candidates: &candidates,
                propensities: &propensities,
                taken,
                propensity: propensities[taken],
                responded: random.random::<f64>() < customer.rate(taken, effects),
                worth: 0.0,
            };
            let known = |name: &str| context.iter().find(|(known, _)| known == name).map(|(_, known)| known);
            let levels: Vec<u8> =
                features.iter().map(|feature| feature.level(known(&feature.name).unwrap_or(&Known::Missing))).collect();
            log.add(&trial, half, levels);
        }
    }
    log
}
