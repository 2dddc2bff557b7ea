//! Replays seeds: `pelton-sim --seed N [--verbose]` or `pelton-sim --seeds A..B`, with `--sabotage NAME` to break a rule.

use std::process::ExitCode;

use pelton_sim::shape::SABOTAGES;
use pelton_sim::{Coverage, run_seed};

const USAGE: &str = "usage: pelton-sim (--seed N | --seeds A..B) [--sabotage NAME] [--verbose]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut sabotage, mut verbose) = (None, None, false);
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "--verbose" => {
                verbose = true;
                continue;
            }
            "--seed" | "--seeds" | "--sabotage" => arguments.next().unwrap_or_default(),
            _ => return usage(),
        };
        match argument.as_str() {
            "--sabotage" => match SABOTAGES.iter().find(|(name, _)| *name == value) {
                Some((_, found)) => sabotage = Some(*found),
                None => return usage(),
            },
            _ => {
                let (first, end) = value.split_once("..").unwrap_or((&value, ""));
                let Ok(first) = first.parse::<u64>() else { return usage() };
                let Ok(end) = (if end.is_empty() { Ok(first + 1) } else { end.parse::<u64>() }) else { return usage() };
                seeds = Some(first..end);
            }
        }
    }
    let Some(seeds) = seeds else { return usage() };
    let (mut cover, mut failed) = (Coverage::default(), 0);
    for seed in seeds.clone() {
        match run_seed(seed, sabotage, verbose) {
            Ok(counts) => cover.add(&counts),
            Err(failure) => {
                failed += 1;
                println!("{failure}");
            }
        }
    }
    println!("{} seeds, {failed} failed", seeds.end - seeds.start);
    cover.counts().iter().for_each(|(name, count)| println!("{count:>10} {name}"));
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
