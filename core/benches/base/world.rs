//! Customers and how they respond, drawn by a seed: what a world has in common is its shape.

use decisioning_core::learn::{Arm, Dimensions, Layout};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Numbers that are known of a customer, standardised; the third is skewed, the fourth uniform.
pub const NUMERICS: usize = 4;
const CITIES: usize = 4;

/// Where the audience has its quartiles, by numeric.
pub const QUARTILES: [[f64; 3]; NUMERICS] =
    [[-0.674, 0.0, 0.674], [-0.674, 0.0, 0.674], [-0.491, 0.0, 0.965], [-0.85, 0.0, 0.85]];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Base and uplift are linear; uplift hardly depends on the customer.
    Linear,
    /// Linear too, and who should get what differs a lot.
    Heterogeneous,
    /// The base has a valley, a threshold and a saturation; uplift is linear.
    Curved,
    /// The base has a valley along the feature that decides who should be left alone.
    Confounded,
    /// Base and uplift have a threshold each.
    CurvedUplift,
}

pub const SHAPES: [Shape; 5] =
    [Shape::Linear, Shape::Heterogeneous, Shape::Curved, Shape::Confounded, Shape::CurvedUplift];

/// A customer as the world sees them.
#[derive(Clone, Debug)]
pub struct Customer {
    pub numerics: [f64; NUMERICS],
    pub city: usize,
}

impl Customer {
    fn draw(random: &mut Xoshiro256PlusPlus) -> Self {
        let [a, b, c]: [f64; 3] = std::array::from_fn(|_| random.sample(StandardNormal));
        let related = 0.6 * a + 0.8 * b;
        let skewed = (c.exp() - 1.0) / (1.4528 / 1.349);
        let uniform = random.random_range(-1.7..1.7);
        let numerics = [a, related, skewed, uniform].map(|x: f64| x.clamp(-4.0, 4.0));
        Customer { numerics, city: random.random_range(0..CITIES) }
    }

    /// Intercept, numerics, cities.
    pub fn columns(&self) -> Vec<f32> {
        let mut columns = vec![1.0_f32];
        columns.extend(self.numerics.iter().map(|x| *x as f32));
        columns.extend((0..CITIES).map(|city| f32::from(u8::from(city == self.city))));
        columns
    }
}

pub fn column_names() -> Vec<String> {
    let numerics = (1..=NUMERICS).map(|at| format!("x{at}"));
    let cities = (1..=CITIES).map(|at| format!("city {at}"));
    std::iter::once("intercept".to_owned()).chain(numerics).chain(cities).collect()
}

/// Two channels, three offers, two messages: twelve arms.
pub fn actions() -> Vec<Dimensions> {
    let mut actions = Vec::new();
    for channel in ["email", "sms"] {
        for offer in ["none", "ten", "twenty"] {
            for message in ["x", "y"] {
                let levels = [("channel", channel), ("offer", offer), ("message", message)];
                actions.push(levels.iter().map(|(d, l)| ((*d).to_owned(), (*l).to_owned())).collect());
            }
        }
    }
    actions
}

pub struct World {
    shape: Shape,
    layout: Layout,
    pub arms: Vec<Arm>,
    /// Of the linear terms.
    coefficients: Vec<f64>,
    /// Directions and strengths of what is not linear.
    signs: [f64; 4],
    random: Xoshiro256PlusPlus,
}

impl World {
    pub fn new(shape: Shape, seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(1_000_003) ^ 0x5eed);
        let names = column_names();
        let actions = actions();
        let layout = Layout::new(names.clone(), &vec![1.0; names.len()], &actions, 1024).unwrap();
        let slope = match shape {
            Shape::Linear => 0.05,
            Shape::Heterogeneous => 0.25,
            Shape::Curved | Shape::Confounded | Shape::CurvedUplift => 0.15,
        };
        let mut coefficients = vec![0.0; layout.len()];
        for block in layout.blocks() {
            let scale = match block.name.as_str() {
                "base" => 0.25,
                "main effects" => 0.3,
                "pairs" => 0.1,
                _ => slope,
            };
            for at in block.coefficients {
                coefficients[at] = scale * random.sample::<f64, _>(StandardNormal);
            }
        }
        coefficients[0] = if shape == Shape::Linear || shape == Shape::Heterogeneous { -4.0 } else { -4.4 };
        if shape == Shape::Confounded {
            // Whom sending pleases depends on x1, along which the base has its valley, and on x2, related to it.
            coefficients[layout.send_offset() + 1] = 0.35 * sign(&mut random);
            coefficients[layout.send_offset()] = 0.0;
        }
        let signs = std::array::from_fn(|_| sign(&mut random));
        let arms = actions.iter().map(|action| layout.arm(action)).collect();
        World { shape, layout, arms, coefficients, signs, random }
    }

    pub fn customer(&mut self) -> Customer {
        Customer::draw(&mut self.random)
    }

    /// What is not linear of the base, and of the uplift of an arm.
    fn curves(&self, customer: &Customer, arm: Option<usize>) -> f64 {
        let [a, b, c, d] = customer.numerics;
        let step = |x: f64, sign: f64| f64::from(u8::from(sign * x > 0.5));
        match self.shape {
            Shape::Linear | Shape::Heterogeneous => 0.0,
            Shape::Curved => {
                0.5 * (a * a).min(4.0)
                    + 1.2 * step(b, self.signs[1])
                    + 0.8 * self.signs[2] * (1.5 * c).tanh()
                    + 0.3 * self.signs[3] * d
            }
            Shape::Confounded => 0.8 * (a * a).min(4.0) - 0.3,
            Shape::CurvedUplift => {
                let uplift = if arm.is_some() { 0.8 * step(b, self.signs[1]) - 0.3 } else { 0.0 };
                1.2 * step(a, self.signs[0]) + uplift
            }
        }
    }

    fn log_odds(&self, customer: &Customer, arm: Option<usize>) -> f64 {
        let mut row = Vec::new();
        self.layout.design(&customer.columns(), arm.map(|arm| &self.arms[arm]), &mut row);
        row.iter().map(|(at, x)| self.coefficients[*at as usize] * x).sum::<f64>() + self.curves(customer, arm)
    }

    /// Log-odds over no-send.
    pub fn uplift(&self, customer: &Customer, arm: usize) -> f64 {
        self.log_odds(customer, Some(arm)) - self.log_odds(customer, None)
    }

    pub fn rate(&self, customer: &Customer, arm: Option<usize>) -> f64 {
        1.0 / (1.0 + (-self.log_odds(customer, arm)).exp())
    }
}

fn sign(random: &mut Xoshiro256PlusPlus) -> f64 {
    if random.random::<bool>() {
        1.0
    } else {
        -1.0
    }
}
