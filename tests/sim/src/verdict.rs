//! One seed from its first record to the verdict: traffic and trouble, then healing, then the checks of the end.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use pelton_core::id::TaskId;

use crate::shape::{Coverage, Sabotage};
use crate::world::{World, trace};

/// After so long without trouble everything must be folded and published, milliseconds.
const HEALED_MS: u64 = 900_000;

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In which world.
    pub seed: u64,
    /// What did not hold, and where that was seen.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {}: {}\nreplay: cargo run -p pelton-sim -- --seed {} --verbose",
            self.seed, self.what, self.seed
        )
    }
}

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a seed.
///
/// # Errors
/// When a rule does not hold.
pub fn run_seed(seed: u64, sabotage: Option<Sabotage>, verbose: bool) -> Result<Coverage, Failure> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulated = PLACE.with_borrow_mut(|place| {
                let simulated = place.is_some();
                *place = place.is_some().then(|| info.location().map(ToString::to_string).unwrap_or_default());
                simulated
            });
            if !simulated {
                usual(info);
            }
        }));
    });
    PLACE.set(Some(String::new()));
    let outcome = catch_unwind(AssertUnwindSafe(|| live(seed, sabotage, verbose)));
    let place = PLACE.take().unwrap_or_default();
    outcome.map_err(|panic| Failure { seed, what: format!("{} ({place})", text(&*panic)) })
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".into())
}

fn live(seed: u64, sabotage: Option<Sabotage>, verbose: bool) -> Coverage {
    let mut world = World::new(seed, sabotage, verbose);
    trace!(world, "{:#?}", world.shape);
    world.run(world.traffic_until, |_| false);

    let heir = world.rng.below(world.hosts.len() as u64) as usize;
    trace!(world, "from here on nothing goes wrong, and host {heir} is alone");
    world.heal(heir);
    // What no reader brings by now is gone.
    let mourning = world.now + HEALED_MS / 2;
    let settled = world.run(world.now + HEALED_MS, |world| {
        if world.now > mourning && world.oracle.unfinished().is_some() && world.all_run(heir) {
            world.oracle.mourn(&world.kinesis);
        }
        world.oracle.unfinished().is_none() && world.all_run(heir)
    });
    let unfinished = world.oracle.unfinished().unwrap_or_else(|| "some task does not run".into());
    assert!(settled, "everything is folded and published in the end: {unfinished}, {}", world.standstill(heir));
    // Calls that were given up long ago may still arrive; nothing changes by them.
    world.run(world.now + 60_000, |_| false);
    world.settle(heir, "a host goes on once nothing goes wrong");
    let verdict = world.oracle.complete();
    world.check(verdict);
    world.check_states(heir, "the log and a local copy");

    world.crash(heir);
    let newcomer = world.add_host();
    world.heal(newcomer);
    world.settle(newcomer, "a new host restores every task");
    world.check_states(newcomer, "the log alone");
    let verdict = world.oracle.complete();
    world.check(verdict);
    world.cover.commits = world.oracle.commits();
    let (fates, lost) = world.oracle.fates();
    world.cover.dead_letters = fates.dead_letters;
    world.cover.redriven = fates.redriven;
    world.cover.dropped = fates.dropped_records();
    world.cover.malformed = fates.malformed;
    world.cover.timers_fired = fates.timers_fired;
    world.cover.lost = lost;
    world.cover
}

impl World {
    /// Lets a host go on until it has nothing to do.
    fn settle(&mut self, host: usize, must: &str) {
        let settled = self.run(self.now + HEALED_MS, |world| world.all_run(host));
        assert!(settled, "{must}: {}", self.standstill(host));
    }

    /// Whether every task runs on a host, with nothing to do.
    fn all_run(&self, host: usize) -> bool {
        self.meta.tasks.tasks().all(|task| {
            let instance = self.hosts[host].tasks.get(&task).filter(|instance| instance.ready);
            let running = instance.and_then(|instance| instance.task.running());
            let now_ms = self.host_now(host);
            running.is_some_and(|running| {
                let due = running.timers().next_ms().is_some_and(|due_ms| due_ms <= now_ms);
                !running.is_busy() && running.outbox().is_empty() && !due
            })
        }) && self.upstream.iter().all(crate::upstream::Upstream::is_done)
    }

    fn check_states(&self, host: usize, how: &str) {
        for task in self.meta.tasks.tasks() {
            self.check(self.oracle.restored(task, &self.hosts[host].stores[&task].state, how));
        }
    }

    /// Which tasks do not get on.
    fn standstill(&self, host: usize) -> String {
        let describe = |task: TaskId| {
            let Some(instance) = self.hosts[host].tasks.get(&task) else { return format!("task {task} is not there") };
            let running = instance.task.running();
            let positions = running.map(|running| {
                let intake = running.intake();
                intake.positions().map(|(shard, entry)| format!("{shard} {}", entry.position)).collect::<Vec<_>>()
            });
            format!("task {task} is {:?} at {positions:?}", instance.task.phase())
        };
        self.meta.tasks.tasks().map(describe).collect::<Vec<_>>().join("; ")
    }
}
