//! Simulations behind the choices in `measure`: which estimator, which interval, and how often each is wrong.
//!
//! `cargo bench -p decisioning-core --bench statistics` runs all; names of simulations run these.

mod adaptive;
mod audience;
mod experiments;
mod insights;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let simulations: [(&str, fn()); 7] = [
        ("peeking", experiments::peeking),
        ("rare", experiments::rare),
        ("coverage", experiments::coverage),
        ("cuped", experiments::cuped),
        ("features", experiments::features),
        ("adaptive", adaptive::main),
        ("insights", insights::main),
    ];
    for (name, simulation) in simulations {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("{name}\n");
            simulation();
            println!();
        }
    }
}
