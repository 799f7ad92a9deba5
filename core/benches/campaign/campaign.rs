//! A marketing campaign of thirty days: rare, late responses, tastes that drift, a message that joins.

use decisioning_core::features::{Declared, Encoder, Observation, Profile, Value};
use decisioning_core::learn::Dimensions;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Distribution, Exp1, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

pub const DAYS: usize = 30;
pub const DRIFT: usize = 15;
pub const NEW: usize = 20;
/// Days in which a response counts.
pub const WINDOW: usize = 6;

const NUMBERS: [&str; 6] = ["recency", "orders", "basket", "open_rate", "coupon_share", "tenure"];
const CATEGORIES: [(&str, &[f64]); 6] = [
    ("country", &[0.45, 0.20, 0.15, 0.12, 0.08]),
    ("device", &[0.35, 0.40, 0.25]),
    ("tier", &[0.50, 0.30, 0.15, 0.05]),
    ("fav", &[0.25, 0.22, 0.18, 0.15, 0.12, 0.08]),
    ("age", &[0.18, 0.25, 0.25, 0.20, 0.12]),
    ("source", &[0.40, 0.30, 0.20, 0.10]),
];
/// Chance that a response comes after so many days: by e-mail, by SMS, without a send.
const DELAYS: [[f64; WINDOW]; 3] =
    [[0.35, 0.25, 0.15, 0.12, 0.08, 0.05], [0.75, 0.12, 0.06, 0.04, 0.02, 0.01], [0.30, 0.20, 0.20, 0.10, 0.10, 0.10]];
const DEVICE: usize = 1;
const TIER: usize = 2;
const FAV: usize = 3;
const AGE: usize = 4;
const SOURCE: usize = 5;

/// What the levers do to the log-odds, and for whom.
#[derive(Clone)]
struct Tastes {
    message: [f64; 4],
    message_fav: [[f64; 6]; 4],
    message_age: [[f64; 5]; 4],
    offer: [f64; 3],
    channel_age: [[f64; 5]; 2],
    slot: [f64; 2],
    slot_source: [[f64; 4]; 2],
    channel_slot: [[f64; 2]; 2],
    message_offer: [[f64; 3]; 4],
}

impl Tastes {
    fn draw(random: &mut Xoshiro256PlusPlus) -> Self {
        let mut tastes = Tastes {
            message: normals(random, 0.10),
            message_fav: std::array::from_fn(|_| normals(random, 0.30)),
            message_age: std::array::from_fn(|_| normals(random, 0.18)),
            offer: normals(random, 0.05),
            channel_age: std::array::from_fn(|_| normals(random, 0.22)),
            slot: normals(random, 0.08),
            slot_source: std::array::from_fn(|_| normals(random, 0.25)),
            channel_slot: std::array::from_fn(|_| normals(random, 0.08)),
            message_offer: std::array::from_fn(|_| normals(random, 0.08)),
        };
        tastes.offer[1] += 0.18;
        tastes.offer[2] += 0.10;
        tastes.message[3] = 0.05;
        tastes.message_fav[3] = [-0.2, 0.9, -0.2, -0.1, 0.9, 0.0];
        tastes
    }

    /// Old messages change places, slots their sign, offers lose appeal, channels change halfway.
    fn drifted(&self, fresh: &Tastes) -> Self {
        let mut after = self.clone();
        after.message[..3].rotate_right(1);
        after.message_fav[..3].rotate_right(1);
        after.slot = self.slot.map(|x| -x);
        after.slot_source = fresh.slot_source;
        after.offer = self.offer.map(|x| 0.6 * x);
        for (channel, fresh) in after.channel_age.iter_mut().zip(&fresh.channel_age) {
            channel.iter_mut().zip(fresh).for_each(|(x, y)| *x = 0.5 * (*x + y));
        }
        after
    }
}

fn normals<const N: usize>(random: &mut Xoshiro256PlusPlus, scale: f64) -> [f64; N] {
    std::array::from_fn(|_| scale * random.sample::<f64, _>(StandardNormal))
}

pub struct Customer {
    numbers: [f64; 6],
    levels: [usize; 6],
    latent: f64,
}

pub struct World {
    pub encoder: Encoder,
    /// Message, offer, channel, slot of every send.
    sends: Vec<[usize; 4]>,
    slopes: [f64; 6],
    bases: Vec<Vec<f64>>,
    tastes: [Tastes; 2],
    means: [f64; 6],
    deviations: [f64; 6],
    people: Xoshiro256PlusPlus,
    pub luck: Xoshiro256PlusPlus,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let stream = |n: u64| Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(n));
        let mut truth = stream(22);
        let mut slopes = normals(&mut truth, 0.18);
        slopes[0] -= 0.25;
        slopes[1] += 0.3;
        let bases =
            CATEGORIES.iter().map(|(_, p)| p.iter().map(|_| normals::<1>(&mut truth, 0.15)[0]).collect()).collect();
        let before = Tastes::draw(&mut truth);
        let after = before.drifted(&Tastes::draw(&mut stream(33)));
        let mut people = stream(11);
        let audience: Vec<Customer> = (0..20_000).map(|_| draw(&mut people)).collect();
        let mean = |f: &dyn Fn(&Customer) -> f64| audience.iter().map(f).sum::<f64>() / audience.len() as f64;
        let means: [f64; 6] = std::array::from_fn(|n| mean(&|customer| customer.numbers[n]));
        let deviations = std::array::from_fn(|n| mean(&|customer| (customer.numbers[n] - means[n]).powi(2)).sqrt());
        let declared = NUMBERS.iter().map(|name| ((*name).to_owned(), Declared::Numeric));
        let declared = declared.chain(CATEGORIES.iter().map(|(name, _)| ((*name).to_owned(), Declared::Category)));
        let mut profile = Profile::new(declared.collect(), seed);
        audience.iter().for_each(|customer| profile.add(observe(customer)));
        let sends = (0..48).map(|n| [n / 12, n / 4 % 3, n / 2 % 2, n % 2]).collect();
        let encoder = profile.encoder();
        World { encoder, sends, slopes, bases, tastes: [before, after], means, deviations, people, luck: stream(44) }
    }

    pub fn actions(&self) -> Vec<Dimensions> {
        let names = ["message", "offer", "channel", "slot"];
        let levels = |send: &[usize; 4]| {
            names.iter().zip(send).map(|(name, level)| ((*name).to_owned(), format!("{}{level}", &name[..1]))).collect()
        };
        self.sends.iter().map(levels).collect()
    }

    pub fn is_allowed(&self, send: usize, day: usize) -> bool {
        self.sends[send][0] != 3 || day >= NEW
    }

    pub fn customer(&mut self) -> Customer {
        draw(&mut self.people)
    }

    pub fn encode(&self, customer: &Customer) -> Vec<f32> {
        let mut encoded = vec![0.0; self.encoder.width()];
        self.encoder.encode(&observe(customer), &mut encoded);
        encoded
    }

    /// Chance of a response: to no-send, then to every send.
    pub fn probabilities(&self, customer: &Customer, day: usize) -> Vec<f64> {
        let late = day >= DRIFT;
        let tastes = &self.tastes[usize::from(late)];
        let z: [f64; 6] = std::array::from_fn(|n| (customer.numbers[n] - self.means[n]) / self.deviations[n]);
        let of = customer.levels;
        let mut base = -4.35 + customer.latent - if late { 0.15 } else { 0.0 };
        base += z.iter().zip(self.slopes).map(|(z, slope)| z * slope).sum::<f64>();
        base += of.iter().zip(&self.bases).map(|(level, effects)| effects[*level]).sum::<f64>();
        let coupon = z[4];
        let premium = of[TIER] == 3 || (of[TIER] == 2 && coupon < 0.0);
        let young = of[DEVICE] == 1 && of[AGE] <= 1;
        let annoyed = of[SOURCE] >= 2 && (of[TIER] == 0 || z[0] > 0.8);
        let uplift = |[message, offer, channel, slot]: &[usize; 4]| {
            let (message, offer, channel, slot) = (*message, *offer, *channel, *slot);
            let mut uplift = tastes.message[message]
                + tastes.message_fav[message][of[FAV]]
                + tastes.message_age[message][of[AGE]]
                + tastes.offer[offer]
                + coupon * [0.0, 0.35, 0.20][offer]
                + [0.0, 0.05][channel]
                + tastes.channel_age[channel][of[AGE]]
                + tastes.slot[slot]
                + tastes.slot_source[slot][of[SOURCE]]
                + tastes.channel_slot[channel][slot]
                + tastes.message_offer[message][offer]
                - 0.20;
            if premium {
                uplift -= [0.0, 1.1, 0.4][offer];
            }
            if channel == 0 {
                uplift += 0.35 * z[3];
            }
            if young {
                uplift += if channel == 1 && slot == 1 { 0.9 } else { -0.8 };
            }
            if annoyed {
                uplift -= 1.6;
            }
            uplift
        };
        let log_odds = std::iter::once(base).chain(self.sends.iter().map(|send| base + uplift(send)));
        log_odds.map(|eta| 1.0 / (1.0 + (-eta).exp())).collect()
    }

    /// Days until the response to a send, or to none, comes.
    pub fn delay(&self, send: Option<usize>, luck: f64) -> usize {
        let delays = DELAYS[send.map_or(2, |send| self.sends[send][2])];
        let mut sum = 0.0;
        delays
            .iter()
            .take_while(|p| {
                sum += **p;
                luck > sum
            })
            .count()
            .min(WINDOW - 1)
    }
}

fn draw(random: &mut Xoshiro256PlusPlus) -> Customer {
    let exponential = |random: &mut Xoshiro256PlusPlus, mean: f64| mean * random.sample::<f64, _>(Exp1);
    let beta = |a: f64, b: f64| Beta::new(a, b).unwrap();
    // Orders are geometric: negative binomial with one success of probability 0.2.
    let orders = (random.random::<f64>().ln() / 0.8_f64.ln()).floor();
    let numbers = [
        exponential(random, 40.0).ln_1p(),
        orders.ln_1p(),
        3.6 + 0.6 * random.sample::<f64, _>(StandardNormal),
        beta(1.5, 4.0).sample(random),
        beta(1.0, 2.5).sample(random),
        exponential(random, 500.0).ln_1p(),
    ];
    let levels = std::array::from_fn(|n| {
        let (mut sum, luck) = (0.0, random.random::<f64>());
        let p = CATEGORIES[n].1;
        p.iter()
            .take_while(|p| {
                sum += **p;
                luck > sum
            })
            .count()
            .min(p.len() - 1)
    });
    Customer { numbers, levels, latent: 0.5 * random.sample::<f64, _>(StandardNormal) }
}

fn observe(customer: &Customer) -> Observation {
    let numbers = customer.numbers.iter().map(|x| Value::Number(*x));
    let levels = CATEGORIES.iter().zip(customer.levels);
    numbers.chain(levels.map(|((name, _), level)| Value::Text(format!("{}{level}", &name[..1])))).collect()
}
