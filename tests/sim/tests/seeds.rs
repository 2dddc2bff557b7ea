//! Many seeds hold, everything that can happen does happen in them, a seed is the same world everywhere, and nothing made wrong
//! on purpose stays unseen.

use std::collections::BTreeSet;
use std::process::Command;

use pelton_sim::mutants::{Mutant, on_record};
use pelton_sim::{run_seed, search, traced};

/// How many seeds are run; `PELTON_SIM_SEEDS` asks for another number.
fn seeds() -> u64 {
    std::env::var("PELTON_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20_000)
}

#[test]
fn every_seed_holds_and_everything_happens() {
    let found = search(0..seeds(), None, 1, |_| {});
    if let Some(failure) = found.failures.first() {
        panic!("{failure}");
    }
    let counts = found.cover.counts();
    counts.iter().for_each(|(name, count)| println!("{count:>10} {name}"));
    let never: Vec<_> = counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert!(never.is_empty(), "in {} seeds these never happened: {never:?}", found.seeds);
}

#[test]
fn every_mutant_is_caught_where_it_was() {
    let on_record = on_record();
    for (name, mutant) in Mutant::all() {
        let caught = on_record.iter().find(|caught| caught.name == name);
        let caught = caught.unwrap_or_else(|| panic!("{name} is not on record: make mutants"));
        let failure = match run_seed(caught.seed, Some(mutant)) {
            Ok(_) => panic!("{caught} no more: make mutants"),
            Err(failure) => failure,
        };
        assert_eq!(failure.promise.to_string(), caught.promise, "{caught}: {}", failure.what);
    }
    // A check that has gone blind would leave its promise without a mutant.
    let of_the_rules = on_record.iter().filter(|caught| !caught.name.starts_with("oracle-"));
    let promises: BTreeSet<&str> = of_the_rules.map(|caught| caught.promise.as_str()).collect();
    for promise in ["1", "2", "3", "4", "5", "6", "7", "9", "10", "liveness"] {
        assert!(promises.contains(promise), "no mutant breaks invariant {promise}");
    }
}

#[test]
fn the_architecture_says_which_mutants_guard_which_promise() {
    let architecture = include_str!("../../../host/ARCHITECTURE.md");
    let rows = architecture.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 3);
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let named: BTreeSet<&str> = last.flat_map(|names| names.split(", ")).filter(|name| !name.contains(' ')).collect();
    let all = Mutant::all().into_iter().map(|(name, _)| name).filter(|name| !name.starts_with("oracle-"));
    assert_eq!(named, all.collect());
}

#[test]
fn a_seed_is_one_world_byte_for_byte() {
    let seeds = 3..9;
    let traces: BTreeSet<String> = seeds.clone().map(|seed| traced(seed, None).0).collect();
    assert_eq!(traces.len(), seeds.clone().count(), "another seed is another world");
    for seed in seeds {
        let mut replay = Command::new(env!("CARGO_BIN_EXE_pelton-sim"));
        let replayed = replay.args(["--seed", &seed.to_string(), "--verbose"]).output();
        let replayed = replayed.expect("the simulator is built beside its tests").stdout;
        let (trace, _) = traced(seed, None);
        assert!(!trace.is_empty() && replayed.starts_with(trace.as_bytes()), "seed {seed} is two worlds");
    }
}

#[test]
fn a_failure_shows_how_it_came_and_how_to_see_it_again() {
    let caught = on_record().into_iter().find(|caught| caught.name == "hole-taken").expect("it is on record");
    let failure = run_seed(caught.seed, Mutant::named(&caught.name)).expect_err("it was caught there");
    let shown = failure.to_string();
    let replay = format!("replay: cargo run --bin pelton-sim -- --seed {} --verbose --mutant hole-taken", caught.seed);
    assert!(shown.contains("is given") && shown.ends_with(&replay), "{shown}");
}
