//! Replays seeds, runs many, or shows that every mutant is caught.

use std::process::ExitCode;
use std::time::Instant;

use pelton_sim::mutants::{Caught, Mutant};
use pelton_sim::{Found, run_seed, search, traced};

const USAGE: &str = "usage: pelton-sim --seed N [--mutant NAME] [--verbose]
       pelton-sim --seeds A..B [--mutant NAME]
       pelton-sim --mutants [NAME] [--record]

--seed N     one world; --verbose prints a line of everything that happens in it
--seeds A..B many worlds, on every core: how often what happened, and each that broke a promise
--mutants    each mutant until a seed catches it; --record keeps the table as tests/sim/caught.txt";

/// A mutant that so many seeds do not catch is not caught.
const SEEDS_PER_MUTANT_MAX: u64 = 20_000;

#[derive(Default)]
struct Asked {
    seed: Option<u64>,
    seeds: Option<std::ops::Range<u64>>,
    mutant: Option<Mutant>,
    mutants: Option<String>,
    verbose: bool,
    record: bool,
}

fn asked() -> Option<Asked> {
    let mut asked = Asked::default();
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--verbose" => asked.verbose = true,
            "--record" => asked.record = true,
            "--seed" => asked.seed = Some(arguments.next()?.parse().ok()?),
            "--seeds" => {
                let value = arguments.next()?;
                let (first, end) = value.split_once("..").unwrap_or(("0", &value));
                asked.seeds = Some(first.parse().ok()?..end.parse().ok()?);
            }
            "--mutant" => asked.mutant = Some(Mutant::named(&arguments.next()?)?),
            "--mutants" => asked.mutants = Some(arguments.next_if(|name| !name.starts_with("--")).unwrap_or_default()),
            _ => return None,
        }
    }
    Some(asked)
}

fn main() -> ExitCode {
    let Some(asked) = asked() else { return usage() };
    let held = match &asked {
        Asked { seed: Some(seed), .. } => one(*seed, asked.mutant, asked.verbose),
        Asked { seeds: Some(seeds), .. } => many(seeds.clone(), asked.mutant),
        Asked { mutants: Some(name), .. } => mutants(name, asked.record),
        _ => return usage(),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn one(seed: u64, mutant: Option<Mutant>, verbose: bool) -> bool {
    let outcome = match verbose {
        true => {
            let (trace, outcome) = traced(seed, mutant);
            print!("{trace}");
            outcome
        }
        false => run_seed(seed, mutant),
    };
    match outcome {
        Ok(cover) => cover.counts().iter().for_each(|(name, count)| println!("{count:>10} {name}")),
        Err(failure) => {
            println!("{failure}");
            return false;
        }
    }
    true
}

fn many(seeds: std::ops::Range<u64>, mutant: Option<Mutant>) -> bool {
    const FAILURES_MAX: usize = 20;
    let began = Instant::now();
    let progress = |done: u64| {
        if done.is_multiple_of(1_000) {
            eprintln!("{done} seeds, {:.0} s", began.elapsed().as_secs_f64());
        }
    };
    let found = search(seeds, mutant, FAILURES_MAX, progress);
    let Found { seeds, cover, failures } = &found;
    failures.iter().for_each(|failure| println!("{failure}\n"));
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} seeds, {} failed, {:.0} seeds/s", failures.len(), *seeds as f64 / seconds);
    cover.counts().iter().for_each(|(name, count)| println!("{count:>10} {name}"));
    failures.is_empty()
}

fn mutants(name: &str, record: bool) -> bool {
    let (mut table, mut all) = (String::new(), true);
    let asked = Mutant::all().into_iter().filter(|(known, _)| name.is_empty() || *known == name);
    for (name, mutant) in asked {
        let found = search(0..SEEDS_PER_MUTANT_MAX, Some(mutant), 1, |_| {});
        match found.failures.first() {
            Some(failure) => {
                let promise = failure.promise.to_string();
                let caught = Caught { name: name.into(), seed: failure.seed, promise };
                println!("{caught}");
                table += &format!("{caught}\n");
            }
            None => {
                all = false;
                println!("missed {name} in {SEEDS_PER_MUTANT_MAX} seeds");
            }
        }
    }
    if record && let Err(error) = std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/caught.txt"), table) {
        eprintln!("caught.txt was not written: {error}");
        all = false;
    }
    all
}
